// The extension module `tensorflow_ipu._native`; _native.pyi describes it.
#include <google/protobuf/util/json_util.h>
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/check/recorded_steps.h"
#include "cc/compiler/compiler.h"
#include "cc/device/installed/installed_backends.h"
#include "cc/device/pjrt/pjrt_backend.h"
#include "cc/engine/engine_manager.h"
#include "cc/executable/executable.h"
#include "cc/executable/tensorflow_build.h"
#include "python/bindings/load_program.h"
#include "python/bindings/status_error.h"

namespace tfipu {
namespace {

namespace py = pybind11;

// The engines of a Python process have no scope.
EngineKey KeyOf(const std::string& name) { return {{}, name}; }

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_fields_with_no_presence = true;
  std::string json;
  ThrowIfError(google::protobuf::util::MessageToJsonString(message, &json, options));
  return json;
}

// Keeps an engine running. Ending it waits for its threads, so the interpreter is free meanwhile.
class EngineHandle {
 public:
  explicit EngineHandle(std::shared_ptr<Engine> engine)
      : engine_(std::move(engine)), name_(engine_->name()) {}
  ~EngineHandle() { Release(); }

  void Release() {
    std::shared_ptr<Engine> engine = std::move(engine_);
    py::gil_scoped_release release;
    engine.reset();
  }

  bool holds() const { return engine_ != nullptr; }
  const std::string& name() const { return name_; }

 private:
  std::shared_ptr<Engine> engine_;
  const std::string name_;
};

void CompileToFile(const std::string& header_json, const std::vector<std::string>& stage_hlo,
                   const std::string& path, std::uint64_t weight_threshold,
                   const std::optional<std::function<void(const std::string&, double)>>& progress,
                   std::vector<std::string> initial_values,
                   std::vector<std::pair<std::uint32_t, std::vector<std::string>>> row_variants,
                   const std::map<std::string, std::string>& plugin,
                   std::map<std::string, std::string> topology_options) {
  ExecutableHeader header;
  const absl::Status parsed = google::protobuf::util::JsonStringToMessage(header_json, &header);
  if (!parsed.ok()) {
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("The header is not an ExecutableHeader in JSON: ", parsed.message())));
  }
  CompileOptions options;
  options.weight_threshold = weight_threshold;
  options.initial_values = std::move(initial_values);
  const auto plugin_field = [&plugin](const char* name) {
    const auto found = plugin.find(name);
    return found == plugin.end() ? std::string() : found->second;
  };
  options.pjrt.plugin = {plugin_field("path"), plugin_field("package"), plugin_field("version")};
  options.pjrt.topology_name = plugin_field("topology_name");
  options.pjrt.topology_options = std::move(topology_options);
  for (auto& [rows, hlo] : row_variants) options.row_variants.push_back({rows, std::move(hlo)});
  // A Python exception in `progress` must not pass through the compiler.
  std::optional<py::error_already_set> raised;
  if (progress.has_value()) {
    options.progress = [&](absl::string_view what, double done) {
      py::gil_scoped_acquire acquire;
      if (raised.has_value()) return;
      try {
        (*progress)(std::string(what), done);
      } catch (py::error_already_set& error) {
        raised.emplace(error);
      }
    };
  }
  absl::Status status;
  {
    py::gil_scoped_release release;
    status = Compile(std::move(header), stage_hlo, path, options);
  }
  if (raised.has_value()) {
    py::error_already_set error(std::move(*raised));
    raised.reset();
    throw error;
  }
  ThrowIfError(status);
}

absl::Status RecordToFile(const std::string& path, const std::string& output, int steps, std::uint64_t seed) {
  if (steps < 1)
    return absl::InvalidArgumentError(absl::StrCat("steps: found ", steps, ", expected at least 1"));
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<const Executable> executable, Executable::Open(path));
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Program> program, InstalledBackends().Load(std::move(executable)));
  TFIPU_ASSIGN_OR_RETURN(const RecordedSteps recorded, RecordSteps(std::move(program), steps, seed));
  return WriteSteps(recorded, output);
}

std::shared_ptr<const Executable> OpenFile(const std::string& path) {
  absl::StatusOr<std::shared_ptr<const Executable>> executable;
  {
    py::gil_scoped_release release;
    executable = Executable::Open(path);
  }
  return ValueOrThrow(std::move(executable));
}

py::dict ToDict(const Histogram::Snapshot& histogram) {
  py::dict dict;
  dict["count"] = histogram.count;
  dict["sum"] = histogram.sum;
  dict["mean"] = histogram.Mean();
  dict["p50"] = histogram.Quantile(0.5);
  dict["p90"] = histogram.Quantile(0.9);
  dict["p99"] = histogram.Quantile(0.99);
  dict["max"] = histogram.max;
  return dict;
}

py::dict ToDict(const EngineStatistics& statistics) {
  py::dict dict;
  dict["calls"] = statistics.calls;
  dict["failed"] = statistics.failed;
  dict["rejected"] = statistics.rejected;
  dict["expired"] = statistics.expired;
  dict["cancelled"] = statistics.cancelled;
  dict["steps"] = statistics.steps;
  dict["dummy_steps"] = statistics.dummy_steps;
  dict["stalls"] = statistics.stalls;
  dict["rows"] = statistics.rows;
  dict["padded_rows"] = statistics.padded_rows;
  dict["runs"] = statistics.runs;
  dict["resets"] = statistics.resets;
  dict["queued"] = statistics.queued;
  dict["fill"] = ToDict(statistics.fill);
  dict["queue_time"] = ToDict(statistics.queue_time);
  dict["device_time"] = ToDict(statistics.device_time);
  dict["call_time"] = ToDict(statistics.call_time);
  return dict;
}

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiler, executables and engines. Import it through tensorflow_ipu._runtime.";
  DefineStatusError(module);
  DefineLoadProgram(module);

  module.def("compile", &CompileToFile, py::arg("header_json"), py::arg("stage_hlo"), py::arg("path"),
             py::arg("weight_threshold") = CompileOptions().weight_threshold,
             py::arg("progress") = py::none(), py::arg("initial_values") = std::vector<std::string>(),
             py::arg("row_variants") = std::vector<std::pair<std::uint32_t, std::vector<std::string>>>(),
             py::arg("plugin") = std::map<std::string, std::string>(),
             py::arg("topology_options") = std::map<std::string, std::string>());
  module.def(
      "add_device_plugin",
      [](const std::string& path, const std::string& package, const std::string& version) {
        AddPjrtPlugin({path, package, version});
      },
      py::arg("path"), py::arg("package") = "", py::arg("version") = "");
  module.def(
      "inspect", [](const std::string& path) { return ToJson(OpenFile(path)->header()); }, py::arg("path"));
  module.def(
      "digest", [](const std::string& path) { return OpenFile(path)->digest(); }, py::arg("path"));
  module.def(
      "check_compatibility",
      [](const std::string& path) {
        const std::shared_ptr<const Executable> executable = OpenFile(path);
        absl::Status status;
        {
          py::gil_scoped_release release;
          status = InstalledBackends().Check(executable->header());
        }
        ThrowIfError(status);
      },
      py::arg("path"));
  module.def("runtime_identity", [] { return absl::StrCat("{\"build\":", ToJson(TensorFlowBuild()), "}"); });
  module.def("offers", [] {
    std::vector<Offer> offers;
    {
      py::gil_scoped_release release;
      offers = InstalledBackends().Offers();
    }
    py::list listed;
    for (const Offer& offer : offers) {
      listed.append(py::make_tuple(ToJson(offer.target), std::string(offer.status.message())));
    }
    return listed;
  });

  module.def(
      "record_steps",
      [](const std::string& path, const std::string& output, int steps, std::uint64_t seed) {
        absl::Status status;
        {
          py::gil_scoped_release release;
          status = RecordToFile(path, output, steps, seed);
        }
        ThrowIfError(status);
      },
      py::arg("path"), py::arg("output"), py::arg("steps") = 4, py::arg("seed") = 1);

  py::class_<EngineHandle>(module, "EngineHandle")
      .def_property_readonly("name", &EngineHandle::name)
      .def_property_readonly("holds", &EngineHandle::holds)
      .def("release", &EngineHandle::Release);
  module.def(
      "keep_engine",
      [](const std::string& name) {
        return std::make_unique<EngineHandle>(ValueOrThrow(EngineManager::Global().Find(KeyOf(name))));
      },
      py::arg("name"));
  module.def(
      "stop_engine",
      [](const std::string& name) {
        absl::Status status;
        {
          py::gil_scoped_release release;
          status = EngineManager::Global().Stop(KeyOf(name));
        }
        ThrowIfError(status);
      },
      py::arg("name"));
  module.def("engine_names", [] {
    std::vector<std::string> names;
    for (const auto& [key, engine] : EngineManager::Global().List()) {
      if (key.scope == EngineScope()) names.push_back(key.name);
    }
    return names;
  });
  module.def(
      "engine_statistics",
      [](const std::string& name) {
        return ToDict(ValueOrThrow(EngineManager::Global().Find(KeyOf(name)))->Statistics());
      },
      py::arg("name"));
}

}  // namespace
}  // namespace tfipu
