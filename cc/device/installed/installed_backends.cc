#include "cc/device/installed/installed_backends.h"

#include "cc/device/emulator/emulator.h"

namespace tfipu {

const Backends& InstalledBackends() {
  static const Backends* const installed = new Backends({&Emulator()});
  return *installed;
}

}  // namespace tfipu
