#include "cc/device/installed/installed_backends.h"
#include "cc/engine/engine_manager.h"

namespace tfipu {

// In a source of its own, so that programs without it need not link every kind of device.
EngineManager& EngineManager::Global() {
  static EngineManager* const manager = new EngineManager(InstalledBackends());
  return *manager;
}

}  // namespace tfipu
