#include "cc/device/installed/installed_backends.h"

#include "cc/device/emulator/emulator.h"
#include "cc/device/pjrt/pjrt_backend.h"

namespace tfipu {

const Backends& InstalledBackends() {
  static const Backends* const installed = new Backends({&Emulator(), &Pjrt()});
  return *installed;
}

}  // namespace tfipu
