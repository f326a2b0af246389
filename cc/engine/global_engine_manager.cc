#include "cc/device/emulator/emulator.h"
#include "cc/engine/engine_manager.h"

namespace tfipu {

// In a source of its own, so that programs without it need not link the emulator.
EngineManager& EngineManager::Global() {
  static EngineManager* const manager = new EngineManager(&Emulator());
  return *manager;
}

}  // namespace tfipu
