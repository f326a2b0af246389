#include "cc/engine/engine_manager.h"

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"

namespace tfipu {

// start_mutex is held while the engine of that name is looked up or started, which may take long, so that
// concurrent calls for one name start it once. It is taken before EngineManager::mutex_, never after. A name
// has one entry for as long as anybody holds it.
struct EngineManager::Entry {
  absl::Mutex start_mutex;
  // Guarded by EngineManager::mutex_:
  std::weak_ptr<Engine> engine;
  std::string path;
};

// The same for a program: load_mutex is held while it is loaded, and taken after start_mutex.
struct EngineManager::LoadedProgram {
  absl::Mutex load_mutex;
  std::weak_ptr<Program> program;  // guarded by EngineManager::mutex_
};

void EngineManager::set_defaults(const EngineDefaults& defaults) {
  absl::MutexLock lock(&mutex_);
  defaults_ = defaults;
}

absl::StatusOr<std::shared_ptr<Engine>> EngineManager::StartOrAttach(
    const EngineKey& key, const std::string& path, absl::Duration timeout,
    absl::Span<const ConstBuffer> startup_inputs) {
  std::shared_ptr<Entry> entry;
  {
    absl::MutexLock lock(&mutex_);
    std::shared_ptr<Entry>& slot = entries_[key];
    if (slot == nullptr) slot = std::make_shared<Entry>();
    entry = slot;
    // The usual case: it runs. A path names its contents for as long as an engine runs on it.
    std::shared_ptr<Engine> engine = entry->engine.lock();
    if (engine != nullptr && entry->path == path) return engine;
  }
  absl::MutexLock starting(&entry->start_mutex);
  absl::StatusOr<std::shared_ptr<Engine>> engine =
      StartOrAttachStarting(key, *entry, path, timeout, startup_inputs);
  absl::MutexLock lock(&mutex_);
  if (engine.ok() && entry->engine.lock() != *engine) {
    entry->engine = *engine;
    entry->path = path;
  }
  RemoveUnused();
  return engine;
}

absl::StatusOr<std::shared_ptr<Engine>> EngineManager::StartOrAttachStarting(
    const EngineKey& key, Entry& entry, const std::string& path, absl::Duration timeout,
    absl::Span<const ConstBuffer> startup_inputs) {
  std::shared_ptr<Engine> running;
  EngineDefaults defaults;
  {
    absl::MutexLock lock(&mutex_);
    running = entry.engine.lock();
    if (running != nullptr && entry.path == path) return running;
    defaults = defaults_;
  }
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<const Executable> executable, Executable::Open(path));
  if (running != nullptr) {
    if (running->executable().digest() == executable->digest()) return running;
    return absl::AlreadyExistsError(absl::StrCat(
        "Engine '", key.name, "' runs already, on '", running->executable().path(), "' (digest ",
        running->executable().digest(), "), and cannot run '", path, "' (digest ", executable->digest(),
        ") as well. Choose another engine name, or stop that engine first."));
  }
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Program> program, LoadProgram(std::move(executable)));
  EngineOptions options;
  options.name = key.name;
  options.timeout = defaults.timeout;
  if (!options.timeout.has_value() && timeout >= absl::ZeroDuration()) options.timeout = timeout;
  options.replicas = defaults.replicas.value_or(0);
  options.automatic_replicas = defaults.automatic_replicas;
  options.max_wait = defaults.max_wait;
  options.max_queued_calls = defaults.max_queued_calls;
  options.on_thread_start = defaults.on_thread_start;
  return Engine::Start(std::move(options), std::move(program), startup_inputs);
}

absl::StatusOr<std::shared_ptr<Program>> EngineManager::LoadProgram(
    std::shared_ptr<const Executable> executable) {
  std::shared_ptr<LoadedProgram> loaded;
  {
    absl::MutexLock lock(&mutex_);
    std::shared_ptr<LoadedProgram>& slot = programs_[executable->digest()];
    if (slot == nullptr) slot = std::make_shared<LoadedProgram>();
    loaded = slot;
  }
  absl::MutexLock loading(&loaded->load_mutex);
  {
    absl::MutexLock lock(&mutex_);
    if (std::shared_ptr<Program> program = loaded->program.lock()) return program;
  }
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Program> program, backends_.Load(std::move(executable)));
  absl::MutexLock lock(&mutex_);
  loaded->program = program;
  return program;
}

absl::StatusOr<std::shared_ptr<Engine>> EngineManager::Find(const EngineKey& key) {
  {
    absl::ReaderMutexLock lock(&mutex_);
    auto found = entries_.find(key);
    if (found != entries_.end()) {
      if (std::shared_ptr<Engine> engine = found->second->engine.lock()) return engine;
    }
  }
  return absl::FailedPreconditionError(absl::StrCat("Engine ", key.name, " does not exist."));
}

absl::Status EngineManager::Stop(const EngineKey& key) {
  std::shared_ptr<Engine> engine;
  {
    absl::MutexLock lock(&mutex_);
    auto found = entries_.find(key);
    if (found != entries_.end()) {
      engine = found->second->engine.lock();
      found->second->engine.reset();
    }
  }
  if (engine == nullptr) return absl::NotFoundError(absl::StrCat("Engine '", key.name, "' does not run."));
  engine->Stop();
  return absl::OkStatus();
}

std::vector<std::pair<EngineKey, std::shared_ptr<Engine>>> EngineManager::List() {
  std::vector<std::pair<EngineKey, std::shared_ptr<Engine>>> running;
  absl::MutexLock lock(&mutex_);
  RemoveUnused();
  for (const auto& [key, entry] : entries_) {
    if (std::shared_ptr<Engine> engine = entry->engine.lock()) running.emplace_back(key, std::move(engine));
  }
  return running;
}

void EngineManager::RemoveUnused() {
  // An entry or a program that only its map refers to is not being started.
  for (auto it = entries_.begin(); it != entries_.end();) {
    it = it->second.use_count() == 1 && it->second->engine.expired() ? entries_.erase(it) : std::next(it);
  }
  for (auto it = programs_.begin(); it != programs_.end();) {
    it = it->second.use_count() == 1 && it->second->program.expired() ? programs_.erase(it) : std::next(it);
  }
}

}  // namespace tfipu
