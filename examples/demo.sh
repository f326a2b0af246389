#!/usr/bin/env bash
# Exports two models, serves them, calls them over REST and gRPC, and stops the server.
# Wants the installed package on the PATH (`make demo` sees to it). Leaves nothing behind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

models=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then kill -TERM "$server"; wait "$server" || true; fi
  rm -rf "$models"
}
trap finish EXIT
# Importing TensorFlow prints to stderr whatever happens: shown only when the program fails.
run_python() { python "$@" 2>"$models/stderr" || { cat "$models/stderr" >&2; return 1; }; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. Export: x * 2 on four floats (examples/single_step.py)"
run_python "$here/single_step.py" "$models/double/001"
say "2. Export: the same with strings turned to floats before and abs after, on the CPU (examples/single_step_cpu_steps.py)"
run_python "$here/single_step_cpu_steps.py" "$models/words/001"

cat > "$models/models.config" <<CONFIG
model_config_list {
  config { name: "my_model" base_path: "$models/double" model_platform: "tensorflow" }
  config { name: "words" base_path: "$models/words" model_platform: "tensorflow" }
}
CONFIG

say "3. Serve both"
tensorflow_model_server --port_file="$models/ports.json" --port=-1 --rest_api_port=-1 \
  --model_config_file="$models/models.config" &
server=$!
run_python "$here/demo_client.py" "$models/ports.json"

say "6. Stop with SIGTERM"
kill -TERM "$server"
wait "$server" && echo "the server ended with status 0"
server=
