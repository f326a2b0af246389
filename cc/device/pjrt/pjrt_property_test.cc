// The engine's property on a real plugin for the CPU, where one is installed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cc/compiler/compiler.h"
#include "cc/device/backends.h"
#include "cc/device/emulator/testing_program.h"
#include "cc/device/pjrt/pjrt_backend.h"
#include "cc/engine/engine_property.h"
#include "cc/executable/test_executable.h"

namespace tfipu {
namespace {

// 2 * x + k, and k + 1.
std::string Hlo(int batch) {
  return ParseHlo(absl::StrReplaceAll(R"(
    HloModule fake
    ENTRY main {
      x = s32[B,W] parameter(0)
      k = s32[B] parameter(1)
      two = s32[] constant(2)
      twos = s32[B,W] broadcast(two), dimensions={}
      wide = s32[B,W] broadcast(k), dimensions={0}
      doubled = s32[B,W] multiply(x, twos)
      y = s32[B,W] add(doubled, wide)
      one = s32[] constant(1)
      ones = s32[B] broadcast(one), dimensions={}
      next = s32[B] add(k, ones)
      ROOT results = (s32[B,W], s32[B]) tuple(y, next)
    })",
                                      {{"B", absl::StrCat(batch)}, {"W", absl::StrCat(kFakeWidth)}}));
}

class Programs {
 public:
  Programs(const std::string& plugin, int steps_in_flight) : plugin_{plugin} {
    PjrtOptions options;
    options.plugins = {plugin_};
    options.steps_in_flight = steps_in_flight;
    backend_ = MakePjrtBackend(options);
  }

  std::shared_ptr<Program> Make(const FakeShape& shape) {
    const std::string name = absl::StrCat("property_", shape.batch, shape.row_batching, shape.iterations, "_",
                                          shape.row_variants.size(), ".ipu");
    std::shared_ptr<Program>& program = programs_[name];
    if (program != nullptr) return program;
    ExecutableHeader header = FakeExecutable(shape)->header();
    header.clear_row_variants();
    header.mutable_stages(0)->clear_code();
    header.mutable_stages(0)->clear_hlo();
    header.mutable_target()->set_num_ipus(1);
    header.mutable_target()->mutable_pjrt()->set_name("cpu-pjrt");
    CompileOptions options;
    options.pjrt.plugin = plugin_;
    for (const int rows : shape.row_variants) {
      options.row_variants.push_back({static_cast<std::uint32_t>(rows), {Hlo(rows)}});
    }
    const std::string path = TestPath(name);
    const absl::Status compiled = Compile(header, {Hlo(shape.batch)}, path, options);
    EXPECT_TRUE(compiled.ok()) << compiled;
    if (!compiled.ok()) return nullptr;
    auto loaded = Backends({backend_.get()}).Load(*Executable::Open(path));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) program = *std::move(loaded);
    return program;
  }

 private:
  const PluginSource plugin_;
  std::unique_ptr<Backend> backend_;
  std::map<std::string, std::shared_ptr<Program>> programs_;
};

TEST(PjrtPropertyTest, EveryCallIsAnsweredOnceWithItsOwnRows) {
  const std::string plugin = PJRT_CPU_PLUGIN;
  if (plugin.empty()) GTEST_SKIP() << "no PJRT plugin for the CPU is installed";
  for (const int steps_in_flight : {1, 3}) {
    Programs programs(plugin, steps_in_flight);
    RunEngineProperty(150, [&](const FakeShape& shape) { return programs.Make(shape); });
  }
}

}  // namespace
}  // namespace tfipu
