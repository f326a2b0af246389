import sys

from tensorflow_ipu.cli import main

sys.exit(main())
