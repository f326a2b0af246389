#include "cc/device/pjrt/pjrt_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/device/backends.h"
#include "cc/engine/engine.h"
#include "cc/executable/test_executable.h"

namespace tfipu {
namespace {

using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr int kSize = 4;

// Every function of the fake plugin that loading or running a program may call.
constexpr const char* kFunctions[] = {
    "PJRT_Plugin_Initialize",
    "PJRT_Plugin_Attributes",
    "PJRT_Event_Destroy",
    "PJRT_Event_IsReady",
    "PJRT_Event_Error",
    "PJRT_Event_OnReady",
    "PJRT_Client_Create",
    "PJRT_Client_AddressableDevices",
    "PJRT_Client_PlatformName",
    "PJRT_Client_PlatformVersion",
    "PJRT_Device_GetDescription",
    "PJRT_DeviceDescription_Kind",
    "PJRT_DeviceDescription_Attributes",
    "PJRT_Client_BufferFromHostBuffer",
    "PJRT_Executable_DeserializeAndLoad",
    "PJRT_LoadedExecutable_Destroy",
    "PJRT_LoadedExecutable_GetExecutable",
    "PJRT_Executable_Destroy",
    "PJRT_Executable_NumOutputs",
    "PJRT_Executable_OutputElementTypes",
    "PJRT_Executable_OutputDimensions",
    "PJRT_LoadedExecutable_Execute",
    "PJRT_Buffer_Destroy",
    "PJRT_Buffer_ElementType",
    "PJRT_Buffer_Dimensions",
    "PJRT_Buffer_CopyToDevice",
    "PJRT_Buffer_ToHostBuffer",
    "PJRT_Buffer_IsOnCpu",
    "PJRT_Buffer_UnsafePointer",
};

// Answers of calls, in order.
class Answers {
 public:
  std::function<void(absl::Status)> Next() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++expected_;
    return [this](absl::Status status) {
      std::lock_guard<std::mutex> lock(mutex_);
      statuses_.push_back(std::move(status));
      changed_.notify_all();
    };
  }

  std::vector<absl::Status> Await() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return statuses_.size() == expected_; });
    return statuses_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t expected_ = 0;
  std::vector<absl::Status> statuses_;
};

class PjrtBackendTest : public ::testing::Test {
 protected:
  ~PjrtBackendTest() override {
    for (const auto& [name, value] : set_) unsetenv(name.c_str());
  }

  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_[name] = value;
  }
  void Unset(const std::string& name) { unsetenv(name.c_str()); }

  // The fake plugin as a file of its own, which the process has not loaded.
  static std::string NewPlugin() {
    static int count = 0;
    const std::string path = TestPath(absl::StrCat("plugin", count++, ".so"));
    WriteBytes(path, ReadBytes(FAKE_PLUGIN));
    return path;
  }

  static PjrtOptions OptionsOf(const std::string& plugin, int steps_in_flight = 1) {
    PjrtOptions options;
    options.plugins = {{plugin}};
    options.steps_in_flight = steps_in_flight;
    options.step_timeout = absl::Milliseconds(200);
    options.load_timeout = absl::Milliseconds(2000);
    return options;
  }

  // x -> y = 2 * x on the fake plugin as it is without trouble.
  static ExecutableHeader Header() {
    ExecutableHeader header;
    *header.mutable_build() = TestHeader().build();
    Target& target = *header.mutable_target();
    target.set_num_ipus(1);
    target.mutable_pjrt()->set_name("fake");
    target.mutable_pjrt()->set_platform("fake");
    target.mutable_pjrt()->set_platform_version("fake 1");
    target.mutable_pjrt()->set_device_kind("Fake 1000");
    target.mutable_pjrt()->set_capability("1.0");
    PjrtPlugin& plugin = *target.mutable_pjrt()->mutable_plugin();
    plugin.set_sha256(*Plugin::HashOf(FAKE_PLUGIN));
    plugin.set_api_minor(90);
    (*plugin.mutable_attributes())["xla_version"] = "2";
    header.set_name("fake");
    header.set_iterations(3);
    Describe(*header.add_infeeds(), "x");
    Describe(*header.add_outfeeds(), "y");
    Stage& stage = *header.add_stages();
    stage.set_name("double");
    stage.add_arguments();
    Describe(*stage.add_results(), "");
    header.add_outfeed_values()->set_source(ValueRef::STAGE_RESULT);
    return header;
  }

  static void Describe(TensorSpec& spec, const std::string& name) {
    spec.set_name(name);
    spec.set_type(FLOAT32);
    spec.add_dims(kSize);
  }

  static std::shared_ptr<const Executable> Write(ExecutableHeader header,
                                                 const std::string& code = "F32 4\n") {
    ExecutableWriter writer;
    for (Stage& stage : *header.mutable_stages()) *stage.mutable_code() = writer.AddBlob(code);
    const std::string path = TestPath("pjrt.ipu");
    EXPECT_EQ(writer.Write(header, path), absl::OkStatus());
    return *Executable::Open(path);
  }

  absl::StatusOr<std::shared_ptr<Program>> Load(const PjrtOptions& options, const ExecutableHeader& header) {
    backends_.push_back(MakePjrtBackend(options));
    return Backends({backends_.back().get()}).Load(Write(header));
  }

  // Makes some calls at once and returns all their outcomes; those that are OK have right results.
  static std::vector<absl::Status> Call(std::shared_ptr<Program> program, int count = 20) {
    auto engine = Engine::Start({.name = "E"}, std::move(program), {});
    if (!engine.ok()) return {engine.status()};
    Answers answers;
    std::vector<AlignedBuffer> buffers;
    for (int i = 0; i < 2 * count; ++i) buffers.emplace_back(kSize * sizeof(float));
    for (int i = 0; i < count; ++i) {
      auto* x = reinterpret_cast<float*>(buffers[2 * i].data());
      for (int k = 0; k < kSize; ++k) x[k] = i + k;
      tfipu::Call call;
      call.infeeds = {buffers[2 * i].span()};
      call.outfeeds = {buffers[2 * i + 1].span()};
      call.done = answers.Next();
      (*engine)->Enqueue(std::move(call));
    }
    std::vector<absl::Status> statuses = answers.Await();
    (*engine)->Stop();
    const bool all_ok = std::all_of(statuses.begin(), statuses.end(), [](const auto& s) { return s.ok(); });
    for (int i = 0; i < count && all_ok; ++i) {
      const auto* y = reinterpret_cast<const float*>(buffers[2 * i + 1].data());
      for (int k = 0; k < kSize; ++k) EXPECT_EQ(y[k], 2.0f * (i + k));
    }
    return statuses;
  }

  std::map<std::string, std::string> set_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

TEST_F(PjrtBackendTest, RunsStepsInEveryWay) {
  for (const char* events : {"", "late"}) {
    for (const char* on_cpu : {"", "1"}) {
      for (int steps_in_flight : {1, 2, 8}) {
        SCOPED_TRACE(absl::StrCat(events, " ", on_cpu, " ", steps_in_flight));
        Set("FAKE_PJRT_EVENTS", events);
        Set("FAKE_PJRT_ON_CPU", on_cpu);
        auto program = Load(OptionsOf(NewPlugin(), steps_in_flight), Header());
        ASSERT_TRUE(program.ok()) << program.status();
        EXPECT_THAT(Call(*program, 100), Each(absl::OkStatus()));
      }
    }
  }
}

TEST_F(PjrtBackendTest, StagesOnTwoDevicesInAChain) {
  ExecutableHeader header = Header();
  header.mutable_target()->set_num_ipus(2);
  Stage& second = *header.add_stages();
  second = header.stages(0);
  second.set_ipu(1);
  second.mutable_arguments(0)->set_source(ValueRef::STAGE_RESULT);
  header.mutable_outfeed_values(0)->set_stage(1);
  auto program = Load(OptionsOf(NewPlugin(), 4), header);
  ASSERT_TRUE(program.ok()) << program.status();
  auto engine = *Engine::Start({.name = "E"}, *program, {});
  AlignedBuffer x(kSize * sizeof(float)), y(kSize * sizeof(float));
  for (int k = 0; k < kSize; ++k) reinterpret_cast<float*>(x.data())[k] = k;
  Answers answers;
  tfipu::Call call;
  call.infeeds = {x.span()};
  call.outfeeds = {y.span()};
  call.done = answers.Next();
  engine->Enqueue(std::move(call));
  EXPECT_THAT(answers.Await(), Each(absl::OkStatus()));
  for (int k = 0; k < kSize; ++k) EXPECT_EQ(reinterpret_cast<float*>(y.data())[k], 4.0f * k);
}

// Carried values: y = 2 * x + c, c being the last y; three steps a run, from zeros on.
TEST_F(PjrtBackendTest, CarriedValuesStartAgainWithEachRun) {
  ExecutableHeader header = Header();
  Describe(*header.add_startup_inputs(), "start");
  header.mutable_stages(0)->add_arguments()->set_source(ValueRef::CARRIED);
  Carried& carried = *header.add_carried();
  Describe(*carried.mutable_spec(), "c");
  carried.mutable_initial()->set_source(ValueRef::STARTUP_INPUT);
  carried.mutable_next()->set_source(ValueRef::STAGE_RESULT);
  for (int steps_in_flight : {1, 4}) {
    auto program = Load(OptionsOf(NewPlugin(), steps_in_flight), header);
    ASSERT_TRUE(program.ok()) << program.status();
    AlignedBuffer start(kSize * sizeof(float)), x(kSize * sizeof(float)), y(kSize * sizeof(float));
    std::fill_n(reinterpret_cast<float*>(start.data()), kSize, 100.0f);
    std::fill_n(reinterpret_cast<float*>(x.data()), kSize, 1.0f);
    auto engine = *Engine::Start({.name = "E"}, *program, {start.span()});
    for (float expected : {102, 104, 106, 102, 104}) {
      Answers answers;
      tfipu::Call call;
      call.infeeds = {x.span()};
      call.outfeeds = {y.span()};
      call.done = answers.Next();
      engine->Enqueue(std::move(call));
      EXPECT_THAT(answers.Await(), Each(absl::OkStatus()));
      EXPECT_EQ(reinterpret_cast<float*>(y.data())[kSize - 1], expected);
    }
  }
}

TEST_F(PjrtBackendTest, AnErrorAtAnyCallIsAnErrorOfTheModelAndNoMore) {
  for (const char* function : kFunctions) {
    for (const char* events : {"", "late"}) {
      for (int steps_in_flight : {1, 4}) {
        SCOPED_TRACE(absl::StrCat(function, " ", events, " ", steps_in_flight));
        Set("FAKE_PJRT_EVENTS", events);
        // From the start; then only once it runs.
        Set("FAKE_PJRT_FAIL", function);
        const PjrtOptions options = OptionsOf(NewPlugin(), steps_in_flight);
        auto program = Load(options, Header());
        if (program.ok()) {
          EXPECT_EQ(Call(*program).size(), 20);
        } else {
          EXPECT_THAT(std::string(program.status().message()), HasSubstr(absl::StrCat(function, " fails")));
        }
        Unset("FAKE_PJRT_FAIL");
        program = Load(options, Header());
        ASSERT_TRUE(program.ok()) << program.status();
        Set("FAKE_PJRT_FAIL", function);
        const std::vector<absl::Status> statuses = Call(*program);
        for (const absl::Status& status : statuses) {
          if (!status.ok()) {
            EXPECT_THAT(std::string(status.message()), HasSubstr(function));
          }
        }
        Unset("FAKE_PJRT_FAIL");
      }
    }
  }
}

TEST_F(PjrtBackendTest, MemoryThatIsMissingMayBeThereForTheNextStep) {
  auto program = Load(OptionsOf(NewPlugin()), Header());
  ASSERT_TRUE(program.ok()) << program.status();
  Set("FAKE_PJRT_FAIL", "PJRT_LoadedExecutable_Execute");
  for (const auto& [code, says] :
       {std::pair("8", "later calls are served"), std::pair("13", "every later call fails")}) {
    Set("FAKE_PJRT_CODE", code);
    for (const absl::Status& status : Call(*program, 1)) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(says));
    }
  }
}

TEST_F(PjrtBackendTest, EventsThatFailOrNeverComeAreAnswered) {
  for (const char* on_cpu : {"", "1"}) {
    for (int steps_in_flight : {1, 4}) {
      Set("FAKE_PJRT_ON_CPU", on_cpu);
      const PjrtOptions options = OptionsOf(NewPlugin(), steps_in_flight);
      auto program = Load(options, Header());
      ASSERT_TRUE(program.ok()) << program.status();
      Set("FAKE_PJRT_EVENTS", "fail");
      for (const absl::Status& status : Call(*program)) {
        EXPECT_THAT(std::string(status.message()), HasSubstr("the event failed"));
      }
      Set("FAKE_PJRT_EVENTS", "never");
      for (const absl::Status& status : Call(*program)) {
        EXPECT_THAT(std::string(status.message()), HasSubstr("has not finished a step within 0.2 seconds"));
      }
      EXPECT_THAT(std::string(Load(options, Header()).status().message()),
                  HasSubstr("has not finished a step"));
      // Another engine on the same plugin goes on when it does.
      Unset("FAKE_PJRT_EVENTS");
      EXPECT_THAT(Call(*program), Each(absl::OkStatus()));
    }
  }
}

TEST_F(PjrtBackendTest, APluginThatHangsCostsItsModelOnly) {
  for (const char* function :
       {"PJRT_Plugin_Initialize", "PJRT_Client_Create", "PJRT_Executable_DeserializeAndLoad"}) {
    Set("FAKE_PJRT_HANG", function);
    PjrtOptions options = OptionsOf(NewPlugin());
    options.load_timeout = absl::Milliseconds(100);
    const absl::Status status = Load(options, Header()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("has not answered within 100ms"));
    // Another plugin starts meanwhile.
    Unset("FAKE_PJRT_HANG");
    EXPECT_TRUE(Load(OptionsOf(NewPlugin()), Header()).ok());
  }
  EXPECT_TRUE(Load(OptionsOf(NewPlugin()), Header()).ok());
}

TEST_F(PjrtBackendTest, FunctionsBehindTheInterfacesEndAreNotCalled) {
  for (std::size_t size = 0; size <= sizeof(PJRT_Api); size += sizeof(void*)) {
    Set("FAKE_PJRT_STRUCT_SIZE", absl::StrCat(size));
    auto program = Load(OptionsOf(NewPlugin()), Header());
    if (program.ok()) {
      Call(*program);
      continue;
    }
    EXPECT_THAT(std::string(program.status().message()),
                AnyOf(HasSubstr("does not have PJRT_"), HasSubstr("an interface of "),
                      HasSubstr("a PJRT plugin with xla_version")));
  }
}

TEST_F(PjrtBackendTest, ResultsOfAnotherTypeOrNumberAreRefusedAtLoad) {
  Set("FAKE_PJRT_OUTPUT", "F64");
  EXPECT_THAT(std::string(Load(OptionsOf(NewPlugin()), Header()).status().message()),
              HasSubstr("expected float32[4]"));
  Unset("FAKE_PJRT_OUTPUT");
  backends_.push_back(MakePjrtBackend(OptionsOf(NewPlugin())));
  const Backends backends({backends_.back().get()});
  for (const auto& [code, says] : {std::pair("F32 2 2\n", "shape [2,2], expected float32[4]"),
                                   std::pair("F32 4\nF32 4\n", "has 2 results, expected 1"),
                                   std::pair("something else", "not code of the fake plugin")}) {
    EXPECT_THAT(std::string(backends.Load(Write(Header(), code)).status().message()), HasSubstr(says));
  }
}

TEST_F(PjrtBackendTest, EachRefusalNamesBothSides) {
  const struct {
    const char* setting;
    const char* found;
    const char* here;
  } cases[] = {
      {"FAKE_PJRT_MINOR", "'0.90'", "0.81"},
      {"FAKE_PJRT_PLATFORM", "platform 'fake'", "cuda"},
      {"FAKE_PJRT_PLATFORM_VERSION", "'fake 1'", "fake 2"},
      {"FAKE_PJRT_KIND", "'Fake 1000'", "Fake 2000"},
      {"FAKE_PJRT_CAPABILITY", "'1.0'", "2.0"},
      {"FAKE_PJRT_XLA_VERSION", "xla_version '2'", "3"},
  };
  for (const auto& [setting, found, here] : cases) {
    const std::string value = std::string(setting) == "FAKE_PJRT_MINOR" ? "81" : here;
    Set(setting, value);
    const absl::Status status = Load(OptionsOf(NewPlugin()), Header()).status();
    Unset(setting);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << setting;
    EXPECT_THAT(std::string(status.message()), HasSubstr(found));
    EXPECT_THAT(std::string(status.message()), HasSubstr(here));
  }
  ExecutableHeader other = Header();
  other.mutable_target()->mutable_pjrt()->mutable_plugin()->set_sha256(std::string(32, '\1'));
  EXPECT_THAT(std::string(Load(OptionsOf(NewPlugin()), other).status().message()),
              HasSubstr("SHA-256 '01010101"));
  other = Header();
  other.mutable_target()->set_num_ipus(3);
  EXPECT_THAT(std::string(Load(OptionsOf(NewPlugin()), other).status().message()),
              HasSubstr("number of devices of 3, this runtime has 2"));
  other = Header();
  other.mutable_target()->mutable_pjrt()->mutable_plugin()->set_package("jax-cuda13-pjrt");
  other.mutable_target()->mutable_pjrt()->mutable_plugin()->set_version("0.11.2");
  PjrtOptions options = OptionsOf(NewPlugin());
  options.plugins[0].package = "fake-pjrt";
  options.plugins[0].version = "7";
  EXPECT_THAT(std::string(Load(options, other).status().message()),
              HasSubstr("the PJRT plugin 'jax-cuda13-pjrt 0.11.2', this runtime has 'fake-pjrt 7'"));
}

TEST_F(PjrtBackendTest, WhatIsNoPluginIsRefused) {
  const std::string text = TestPath("text.so");
  WriteBytes(text, "no library");
  EXPECT_THAT(std::string(Load({}, Header()).status().message()), HasSubstr("this process has none"));
  EXPECT_THAT(std::string(Load(OptionsOf(TestPath("missing.so")), Header()).status().message()),
              HasSubstr("missing.so"));
  EXPECT_THAT(std::string(Load(OptionsOf(text), Header()).status().message()), HasSubstr("cannot be loaded"));
  EXPECT_THAT(
      std::string(Load(OptionsOf("/usr/lib/x86_64-linux-gnu/libz.so.1"), Header()).status().message()),
      AnyOf(HasSubstr("no function GetPjrtApi"), HasSubstr("Cannot open")));
}

TEST_F(PjrtBackendTest, FlagsThatWouldEndTheProcessAreRefused) {
  EXPECT_EQ(UnknownXlaFlag("", "library"), "");
  EXPECT_EQ(UnknownXlaFlag("--xla_known=3 --xla_other", absl::string_view("xla_known\0xla_other\0", 20)), "");
  EXPECT_EQ(UnknownXlaFlag("--xla_known=3 --xla_new=1", absl::string_view("xla_known\0", 10)), "--xla_new=1");
  EXPECT_EQ(UnknownXlaFlag("flags.txt", "library"), "flags.txt");
  Set("XLA_FLAGS", "--xla_no_such_flag=1");
  const absl::Status status = Load(OptionsOf(NewPlugin()), Header()).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("--xla_no_such_flag=1"));
}

TEST_F(PjrtBackendTest, MemoryOptionsReachThePlugin) {
  Set("FAKE_PJRT_REFUSES_OPTIONS", "1");
  EXPECT_EQ(Load(OptionsOf(NewPlugin()), Header()).status(), absl::OkStatus());
  PjrtOptions options = OptionsOf(NewPlugin());
  options.memory.preallocate = false;
  options.memory.memory_fraction = 0.5;
  EXPECT_THAT(std::string(Load(options, Header()).status().message()),
              HasSubstr("unknown options: preallocate=0 memory_fraction=0.5"));
}

TEST_F(PjrtBackendTest, OffersTellWhatIsHereAndWhatIsWrong) {
  PjrtOptions options = OptionsOf(NewPlugin());
  options.plugins.push_back({TestPath("missing.so"), "gone-pjrt", "1"});
  const auto backend = MakePjrtBackend(options);
  const std::vector<Offer> offers = backend->Offers();
  ASSERT_EQ(offers.size(), 2);
  EXPECT_EQ(offers[0].status, absl::OkStatus());
  EXPECT_EQ(offers[0].target.num_ipus(), 2);
  EXPECT_EQ(offers[0].target.pjrt().device_kind(), "Fake 1000");
  EXPECT_EQ(offers[0].target.pjrt().plugin().sha256(), *Plugin::HashOf(FAKE_PLUGIN));
  EXPECT_FALSE(offers[1].status.ok());
  EXPECT_EQ(offers[1].target.pjrt().plugin().package(), "gone-pjrt");
}

TEST_F(PjrtBackendTest, ReplicasAreOnDevicesOfTheirOwn) {
  auto backend = MakePjrtBackend(OptionsOf(NewPlugin()));
  auto program = Backends({backend.get()}).Load(Write(Header()));
  ASSERT_TRUE(program.ok()) << program.status();
  auto plugin = Plugin::Load(OptionsOf(NewPlugin()).plugins[0]);
  ASSERT_TRUE(plugin.ok());
  Client* client = *Client::Get(*plugin, {});
  auto first = client->Choose(1);
  auto second = client->Choose(1);
  EXPECT_NE(first->device(0), second->device(0));
  first.reset();
  auto third = client->Choose(1);
  EXPECT_EQ(third->device(0), client->devices()[0]);
  auto both = client->Choose(2);
  EXPECT_NE(both->device(0), both->device(1));
}

}  // namespace
}  // namespace tfipu
