#include "serving/server/state_log.h"

#include "serving/core/log.h"

namespace tfipu::serving {

void StateLog::Changed(const ServableState& state) {
  const std::string id = state.id.DebugString();
  switch (state.wait) {
    case ServableWait::kFiles:
      if (waiting_.insert(state.id).second) {
        LogInfo("Servable version ", id, " is not loaded yet: it ", state.status.message());
      }
      return;
    case ServableWait::kRetry:
      return LogWarning("Loading servable version ", id,
                        " failed and will be tried again: ", state.status.ToString());
    case ServableWait::kHungLoad:
      return LogWarning("Servable version ", id, ": ", state.status.message());
    case ServableWait::kNothing:
      break;
  }
  if (state.stage >= ServableStage::kAvailable) waiting_.erase(state.id);
  if (state.stage == ServableStage::kAvailable) LogInfo("Successfully loaded servable version ", id);
  if (state.stage != ServableStage::kEnd) return;
  if (state.status.ok()) {
    LogInfo("Unloaded servable version ", id);
  } else {
    LogError("Loading servable version ", id, " failed: ", state.status.ToString());
  }
}

}  // namespace tfipu::serving
