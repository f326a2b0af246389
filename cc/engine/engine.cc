#include "cc/engine/engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/engine/engine_core.h"
#include "cc/engine/feed_layout.h"

namespace tfipu {

absl::StatusOr<std::shared_ptr<Engine>> Engine::Start(EngineOptions options, std::shared_ptr<Program> program,
                                                      absl::Span<const ConstBuffer> startup_inputs) {
  const std::string name = options.name;
  const auto named = [&name](const absl::Status& status) {
    return absl::Status(status.code(),
                        absl::StrCat("Engine '", name, "' was not started: ", status.message()));
  };
  absl::StatusOr<FeedLayout> layout = FeedLayout::Of(program->executable().header());
  if (!layout.ok()) return named(layout.status());
  auto core = std::make_shared<EngineCore>(std::move(options), std::move(program), *std::move(layout));
  absl::Status started = core->Start(startup_inputs);
  if (!started.ok()) {
    core->Stop();
    return named(started);
  }
  return std::make_shared<Engine>(std::move(core));
}

Engine::Engine(std::shared_ptr<EngineCore> core) : core_(std::move(core)) {}

Engine::~Engine() { core_->Stop(); }

CallId Engine::Enqueue(Call call) {
  // The answer may drop the engine.
  const std::shared_ptr<EngineCore> core = core_;
  const CallId id = core->Add(std::move(call));
  core->Wake();
  return id;
}

CallId Engine::Add(Call call) { return std::shared_ptr<EngineCore>(core_)->Add(std::move(call)); }

void Engine::Wake() { core_->Wake(); }

void Engine::RunHere(Patience patience) { core_->RunHere(patience); }

bool Engine::Cancel(CallId id) { return std::shared_ptr<EngineCore>(core_)->Cancel(id); }

void Engine::Stop() { core_->Stop(); }

bool Engine::stopped() const { return core_->stopped(); }

const std::string& Engine::name() const { return core_->name(); }

const Executable& Engine::executable() const { return core_->executable(); }

EngineStatistics Engine::Statistics() const { return core_->Statistics(); }

}  // namespace tfipu
