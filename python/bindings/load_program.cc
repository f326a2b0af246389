#include "python/bindings/load_program.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/installed/installed_backends.h"
#include "cc/engine/engine.h"
#include "cc/executable/executable.h"
#include "cc/executable/writer.h"
#include "cc/load/load_driver.h"
#include "python/bindings/status_error.h"

namespace tfipu {
namespace {

namespace py = pybind11;

// The same executable with another number of iterations: only its header knows it. The file is needed no
// longer than it takes to read it.
absl::StatusOr<std::shared_ptr<const Executable>> WithIterations(const Executable& executable,
                                                                 std::uint64_t iterations) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = absl::StrCat(folder != nullptr ? folder : "/tmp", "/tensorflow_ipu_bench_XXXXXX");
  const int descriptor = mkstemp(path.data());
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("Cannot create '", path, "'"));
  close(descriptor);
  ExecutableHeader header = executable.header();
  header.set_iterations(iterations);
  absl::Status written = WriteCopy(executable, std::move(header), path);
  auto copy =
      written.ok() ? Executable::Open(path) : absl::StatusOr<std::shared_ptr<const Executable>>(written);
  unlink(path.c_str());
  return copy;
}

class LoadProgram {
 public:
  static std::unique_ptr<LoadProgram> Create(const std::string& path, std::uint64_t iterations) {
    auto result = std::make_unique<LoadProgram>();
    absl::Status status;
    {
      py::gil_scoped_release release;
      status = result->Load(path, iterations);
    }
    ThrowIfError(status);
    return result;
  }

  py::dict Drive(int concurrency, double rate, std::int64_t rows, double seconds, double warm_up_seconds,
                 std::int64_t timeout_us, int replicas, std::int64_t max_wait_us,
                 const std::optional<std::function<void(double)>>& progress) const {
    LoadOptions load;
    load.concurrency = concurrency;
    load.rate = rate;
    load.rows = rows;
    load.duration = absl::Seconds(seconds);
    load.warm_up = absl::Seconds(warm_up_seconds);
    EngineOptions engine;
    engine.name = "bench";
    engine.replicas = replicas;
    if (timeout_us >= 0) engine.timeout = absl::Microseconds(timeout_us);
    if (max_wait_us >= 0) engine.max_wait = absl::Microseconds(max_wait_us);

    // What Python raises meanwhile, the user's interrupt among it, ends the load and is raised when it has
    // ended.
    std::optional<py::error_already_set> raised;
    const auto report = [&](double share) {
      py::gil_scoped_acquire acquire;
      try {
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (progress.has_value()) (*progress)(share);
      } catch (py::error_already_set& error) {
        raised.emplace(error);
        return false;
      }
      return true;
    };
    absl::StatusOr<LoadResult> result;
    {
      py::gil_scoped_release release;
      result = Run(std::move(engine), load, report);
    }
    if (raised.has_value()) {
      py::error_already_set error(std::move(*raised));
      raised.reset();
      throw error;
    }
    return ToDict(ValueOrThrow(std::move(result)));
  }

 private:
  absl::Status Load(const std::string& path, std::uint64_t iterations) {
    TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<const Executable> executable, Executable::Open(path));
    if (iterations != 0 && iterations != executable->header().iterations()) {
      TFIPU_ASSIGN_OR_RETURN(executable, WithIterations(*executable, iterations));
    }
    for (const TensorSpec& spec : executable->header().startup_inputs()) {
      startup_inputs_.push_back(RandomTensor(spec.type(), *TensorSize(spec), startup_inputs_.size()));
    }
    TFIPU_ASSIGN_OR_RETURN(program_, InstalledBackends().Load(std::move(executable)));
    return absl::OkStatus();
  }

  absl::StatusOr<LoadResult> Run(EngineOptions options, const LoadOptions& load,
                                 const std::function<bool(double)>& progress) const {
    std::vector<ConstBuffer> startup_inputs;
    for (const AlignedBuffer& input : startup_inputs_)
      startup_inputs.emplace_back(input.data(), input.size());
    TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine,
                           Engine::Start(std::move(options), program_, startup_inputs));
    return DriveLoad(*engine, load, progress);
  }

  static py::dict ToDict(const LoadResult& result) {
    py::dict dict;
    dict["calls"] = result.calls;
    dict["failed"] = result.failed;
    dict["failure"] = result.failure.ok() ? "" : result.failure.ToString();
    dict["seconds"] = result.seconds;
    for (const auto& [name, share] : {std::pair("p50", 0.5), std::pair("p90", 0.9), std::pair("p99", 0.99),
                                      std::pair("p999", 0.999), std::pair("max", 1.0)}) {
      dict[name] = result.latency.Quantile(share) / 1000;
    }
    dict["mean"] = result.latency.Mean() / 1000;
    dict["steps"] = result.steps;
    dict["dummy_steps"] = result.dummy_steps;
    dict["rows"] = result.rows;
    dict["padded_rows"] = result.padded_rows;
    return dict;
  }

  std::shared_ptr<Program> program_;
  std::vector<AlignedBuffer> startup_inputs_;
};

}  // namespace

void DefineLoadProgram(py::module_& module) {
  py::class_<LoadProgram>(module, "LoadProgram")
      .def(py::init(&LoadProgram::Create), py::arg("path"), py::arg("iterations") = 0)
      .def("drive", &LoadProgram::Drive, py::kw_only(), py::arg("concurrency") = 1, py::arg("rate") = 0.0,
           py::arg("rows") = 0, py::arg("seconds") = 2.0, py::arg("warm_up_seconds") = 0.2,
           py::arg("timeout_us") = -1, py::arg("replicas") = 0, py::arg("max_wait_us") = -1,
           py::arg("progress") = py::none());
}

}  // namespace tfipu
