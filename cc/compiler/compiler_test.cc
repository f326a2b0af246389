#include "cc/compiler/compiler.h"

#include <sched.h>

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/compiler/cpu_levels.h"
#include "cc/device/emulator/testing_program.h"
#include "cc/executable/executable.h"
#include "cc/executable/tensorflow_build.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// Numbers that are neither all the same nor a range, for a constant of `count` elements.
std::string Numbers(int count, int seed = 1) {
  std::vector<std::string> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(absl::StrCat((i * 7919 + seed * 31) % 1000, ".5"));
  return absl::StrCat("{", absl::StrJoin(numbers, ", "), "}");
}

// y = x . weights, of 4 x 512 floats in all.
std::string Dot(int seed = 1) {
  return absl::StrCat("HloModule s ENTRY main {\n x = f32[4] parameter(0)\n w = f32[2048] constant(",
                      Numbers(2048, seed),
                      ")\n m = f32[4,512] reshape(w)\n p = f32[512] dot(x, m), lhs_contracting_dims={0}, "
                      "rhs_contracting_dims={0}\n ROOT y = f32[4] slice(p), slice={[0:4]}\n}");
}

constexpr char kIdentity[] = "HloModule s ENTRY main { x = f32[4] parameter(0) ROOT y = f32[4] negate(x) }";

std::string Results(const ExecutableHeader& header, int stage) {
  std::vector<std::string> results;
  for (const TensorSpec& spec : header.stages(stage).results()) results.push_back(ToString(spec));
  return absl::StrJoin(results, " ");
}

absl::Status StatusOf(const TestingProgram& program) { return program.Compile().status(); }

TEST(CompilerTest, FillsInTheHeader) {
  auto executable = TestingProgram::Chain({Dot(), kIdentity}).Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  const ExecutableHeader& header = (*executable)->header();
  EXPECT_EQ(header.build().SerializeAsString(), TensorFlowBuild().SerializeAsString());
  EXPECT_EQ(header.target().ipu().cpu(), "x86-64-v3");
  EXPECT_THAT(header.target().ipu().cpu_features(),
              AllOf(Contains("avx2"), Contains("fma"), Contains("sse4.2")));
  EXPECT_EQ(Results(header, 0), "float32[4]");
  EXPECT_EQ(ToString(header.outfeeds(0)), "float32[4]");
  EXPECT_EQ(header.outfeeds(0).name(), "y");
  EXPECT_GT(header.stages(0).memory_used(), 8192);
  EXPECT_LT(header.stages(0).memory_used(), 32768);
  EXPECT_GT(header.stages(0).code().size(), 0);
  EXPECT_GT(header.stages(0).hlo().size(), 0);
}

TEST(CompilerTest, ConstantsBecomeWeights) {
  auto executable = TestingProgram::OneStage(Dot()).Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  const ExecutableHeader& header = (*executable)->header();
  ASSERT_EQ(header.weights_size(), 1);
  // The reshape was computed at once: the weight has the shape in which it is used.
  EXPECT_EQ(ToString(header.weights(0).spec()), "float32[4,512]");
  ASSERT_EQ(header.stages(0).arguments_size(), 2);
  EXPECT_EQ(header.stages(0).arguments(1).source(), ValueRef::WEIGHT);
  const ConstBuffer weight = (*executable)->blob(header.weights(0).blob());
  EXPECT_EQ(reinterpret_cast<const float*>(weight.data())[1], (7919 + 31) % 1000 + 0.5f);
  EXPECT_TRUE(IsAligned(weight.data()));
}

TEST(CompilerTest, TheSameWeightIsStoredOnce) {
  auto executable = TestingProgram::Chain({Dot(1), Dot(2), Dot(1)}).Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  const ExecutableHeader& header = (*executable)->header();
  EXPECT_EQ(header.weights_size(), 2);
  EXPECT_EQ(header.stages(0).arguments(1).index(), header.stages(2).arguments(1).index());
  EXPECT_EQ(header.stages(1).arguments(1).index(), 1);
}

TEST(CompilerTest, SmallAndRegularConstantsStayInTheCode) {
  CompileOptions options;
  options.weight_threshold = 8193;
  auto small = TestingProgram::OneStage(Dot()).Compile(options);
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ((*small)->header().weights_size(), 0);

  std::vector<std::string> sevens(2048, "7");
  auto regular = TestingProgram::OneStage(
                     absl::StrCat("HloModule s ENTRY main { x = f32[4] parameter(0) w = f32[2048] constant({",
                                  absl::StrJoin(sevens, ","),
                                  "}) p = f32[4] slice(w), slice={[4:8]} ROOT y = f32[4] add(x, p) }"))
                     .Compile();
  ASSERT_TRUE(regular.ok()) << regular.status();
  EXPECT_EQ((*regular)->header().weights_size(), 0);
}

TEST(CompilerTest, ResultsMayBeArgumentsConstantsAndNestedTuples) {
  TestingProgram program = TestingProgram::OneStage(R"(HloModule s ENTRY main {
      x = f32[4] parameter(0) c = s32[2] constant({5, 6}) n = f32[4] negate(x)
      t = (f32[4], (s32[2], f32[4])) tuple(n, (s32[2], f32[4]) tuple(c, x))
      ROOT r = ((f32[4], (s32[2], f32[4])), f32[4]) tuple(t, n) })");
  for (int i = 1; i < 4; ++i) {
    program.header.add_outfeeds()->set_name(absl::StrCat("y", i));
    *program.header.add_outfeed_values() = program.header.outfeed_values(0);
    program.header.mutable_outfeed_values(i)->set_index(i);
  }
  auto loaded = program.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Results((*loaded)->executable().header(), 0), "float32[4] int32[2] float32[4] float32[4]");

  struct Once : StepSource {
    Step step;
    bool given = false;
    Step* NextStep() override { return std::exchange(given, true) ? nullptr : &step; }
    void StepDone(Step*) override {}
    void RunEnded() override {}
  } source;
  std::vector<AlignedBuffer> buffers;
  for (int size : {16, 16, 8, 16, 16}) buffers.emplace_back(size);
  float* x = reinterpret_cast<float*>(buffers[0].data());
  for (int i = 0; i < 4; ++i) x[i] = i;
  source.step.infeeds = {buffers[0].span()};
  for (int i = 1; i < 5; ++i) source.step.outfeeds.push_back(buffers[i].span());
  auto device = (*loaded)->CreateDevice({});
  ASSERT_TRUE(device.ok());
  ASSERT_EQ((*device)->Run(source), std::nullopt);
  EXPECT_EQ(reinterpret_cast<float*>(buffers[1].data())[3], -3);
  EXPECT_EQ(reinterpret_cast<std::int32_t*>(buffers[2].data())[1], 6);
  EXPECT_EQ(reinterpret_cast<float*>(buffers[3].data())[3], 3);
  EXPECT_EQ(reinterpret_cast<float*>(buffers[4].data())[3], -3);
}

TEST(CompilerTest, GivesTheSameBytesWhateverTheNumberOfCores) {
  const TestingProgram program =
      TestingProgram::Chain({Dot(1), R"(HloModule s ENTRY main { x = f32[4] parameter(0)
      b = f32[4,256,256] broadcast(x), dimensions={0} e = f32[4,256,256] exponential(b)
      s = f32[4,256,256] sine(e) z = f32[] constant(0)
      ROOT y = f32[4] reduce(s, z), dimensions={1,2}, to_apply={ a = f32[] parameter(0) b = f32[] parameter(1)
        ROOT c = f32[] add(a, b) } })"});
  auto all_cores = program.Compile();
  ASSERT_TRUE(all_cores.ok()) << all_cores.status();
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  auto one_core = program.Compile();
  sched_setaffinity(0, sizeof(before), &before);
  ASSERT_TRUE(one_core.ok()) << one_core.status();
  EXPECT_EQ((*one_core)->digest(), (*all_cores)->digest());
}

TEST(CompilerTest, TheFileHoldsNoSourceLines) {
  auto executable = TestingProgram::OneStage(R"(HloModule s ENTRY main { x = f32[4] parameter(0)
      ROOT y = f32[4] negate(x), metadata={op_name="model/neg" source_file="/home/me/model.py" source_line=42} })")
                        .Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  const Stage& stage = (*executable)->header().stages(0);
  for (const Blob& blob : {stage.code(), stage.hlo()}) {
    const ConstBuffer bytes = (*executable)->blob(blob);
    const absl::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    EXPECT_FALSE(absl::StrContains(text, "model.py"));
    EXPECT_EQ(absl::StrContains(text, "model/neg"), blob.offset() == stage.hlo().offset());
  }
}

TEST(CompilerTest, CompilesInSeveralThreadsAtOnce) {
  const TestingProgram program = TestingProgram::Chain({Dot(1), kIdentity});
  std::vector<std::string> digests(4);
  std::vector<std::thread> threads;
  for (std::string& digest : digests) {
    threads.emplace_back([&program, &digest] {
      auto executable = program.Compile();
      digest = executable.ok() ? (*executable)->digest() : executable.status().ToString();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(digests, Each(digests[0]));
  EXPECT_EQ(digests[0].size(), 64) << digests[0];
}

TEST(CompilerTest, RefusesMoreThanTheMemoryOfAnIpu) {
  TestingProgram program = TestingProgram::Chain({Dot(1), Dot(2)});
  program.header.mutable_target()->mutable_ipu()->set_tiles_per_ipu(4);
  program.header.mutable_target()->mutable_ipu()->set_memory_per_tile(4096);
  EXPECT_TRUE(StatusOf(program).ok()) << "each stage has an IPU of its own";
  program.header.mutable_stages(1)->set_ipu(0);
  const absl::Status status = StatusOf(program);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("on IPU 0, which has 16.0 KiB (16384 bytes) (4 tiles of 4.0 KiB"),
                    HasSubstr("The program needs "), HasSubstr("'stage1': ")));
  // The same weights are in the IPU's memory once.
  program = TestingProgram::Chain({Dot(1), Dot(1)});
  program.header.mutable_target()->mutable_ipu()->set_tiles_per_ipu(4);
  program.header.mutable_target()->mutable_ipu()->set_memory_per_tile(4096);
  program.header.mutable_stages(1)->set_ipu(0);
  EXPECT_TRUE(StatusOf(program).ok()) << StatusOf(program);
}

TEST(CompilerTest, RefusesDynamicShapes) {
  TestingProgram program = TestingProgram::OneStage(R"(HloModule s ENTRY main {
      x = f32[4] parameter(0) n = s32[] constant(2)
      ROOT y = f32[<=4] set-dimension-size(x, n), dimensions={0}, metadata={op_name="model/boolean_mask"
        source_file="model.py" source_line=42} })");
  const absl::Status status = StatusOf(program);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("Stage 0 'stage0': The result 0 has a dynamic shape: dimension 0 of f32[<=4]"),
                    HasSubstr("model/boolean_mask"), HasSubstr("model.py:42")));
}

TEST(CompilerTest, RefusesWhatCannotBeCompiled) {
  TestingProgram infeed = TestingProgram::OneStage(R"(HloModule s ENTRY main { x = f32[4] parameter(0)
      t = token[] after-all() i = (f32[4], token[]) infeed(t), metadata={op_name="feed" source_file="m.py" source_line=7}
      ROOT y = f32[4] get-tuple-element(i), index=0 })");
  EXPECT_THAT(StatusOf(infeed).message(), AllOf(HasSubstr("operation infeed of 'feed' at m.py:7")));

  TestingProgram custom = TestingProgram::OneStage(R"(HloModule s ENTRY main { x = f32[4] parameter(0)
      ROOT y = f32[4] custom-call(x), custom_call_target="no_such_function",
        metadata={op_name="PyFunc" source_file="m.py" source_line=8} })");
  const absl::Status status = StatusOf(custom);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("no_such_function"), HasSubstr("m.py:8")));
}

TEST(CompilerTest, RefusesHloAndHeaderThatDoNotFit) {
  TestingProgram program = TestingProgram::OneStage(kIdentity);
  program.header.mutable_infeeds(0)->set_dims(0, 5);
  EXPECT_THAT(StatusOf(program).message(),
              HasSubstr("Found float32[5] (INFEED 0) for argument 0, expected float32[4]"));

  program = TestingProgram::OneStage(kIdentity);
  program.header.mutable_stages(0)->add_arguments();
  EXPECT_THAT(StatusOf(program).message(), HasSubstr("Found 2 arguments, expected 1"));

  program = TestingProgram::OneStage(kIdentity);
  program.header.mutable_outfeed_values(0)->set_index(1);
  EXPECT_THAT(StatusOf(program).message(), HasSubstr("There is no STAGE_RESULT 1 of stage 0"));

  program = TestingProgram::OneStage(kIdentity);
  program.header.add_stages();
  EXPECT_THAT(StatusOf(program).message(), HasSubstr("Found HLO for 1 stages, expected 2"));

  program = TestingProgram::OneStage(kIdentity);
  EXPECT_THAT(Compile(program.header, {"no HLO"}, "/nowhere/file").message(),
              HasSubstr("no xla.HloModuleProto"));
}

TEST(CompilerTest, GeneratesCodeForNamedCpusOnly) {
  TestingProgram program = TestingProgram::OneStage(kIdentity);
  program.header.mutable_target()->mutable_ipu()->set_cpu("x86-64");
  auto executable = program.Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  EXPECT_THAT((*executable)->header().target().ipu().cpu_features(), Not(Contains("avx2")));
  program.header.mutable_target()->mutable_ipu()->set_cpu("abacus");
  EXPECT_THAT(StatusOf(program).message(), AllOf(HasSubstr("'abacus'"), HasSubstr("x86-64-v3")));
}

TEST(CompilerTest, VariantsForFewerRowsShareTheWeights) {
  TestingProgram program =
      TestingProgram::ChainOfModules({MlpHlo(8, {64, 64}), MlpHlo(8, {64, 64}, 2)}, {8, 64});
  const std::uint64_t alone = (*program.Compile())->header().file_size();
  program.header.set_dynamic_batch(true);
  CompileOptions options;
  options.row_variants = {{1, {MlpHlo(1, {64, 64}), MlpHlo(1, {64, 64}, 2)}},
                          {4, {MlpHlo(4, {64, 64}), MlpHlo(4, {64, 64}, 2)}}};
  auto executable = program.Compile(options);
  ASSERT_TRUE(executable.ok()) << executable.status();
  const ExecutableHeader& header = (*executable)->header();
  ASSERT_EQ(header.row_variants_size(), 2);
  EXPECT_EQ(header.weights_size(), 2);
  EXPECT_EQ(header.row_variants(1).rows(), 4);
  EXPECT_EQ(ToString(header.row_variants(1).stages(1).results(0)), "float32[4,64]");
  EXPECT_FALSE(header.row_variants(0).stages(0).has_hlo());
  EXPECT_LT(header.file_size(), alone + 2 * 64 * 64 * 4);
  options.row_variants[0].stage_hlo.pop_back();
  EXPECT_THAT(program.Compile(options).status().message(), HasSubstr("variant for 1 rows, expected 2"));
  options.row_variants[0].stage_hlo.push_back(MlpHlo(2, {64, 64}, 2));
  EXPECT_THAT(program.Compile(options).status().message(),
              AllOf(HasSubstr("Variant for 1 rows: Stage 1"), HasSubstr("float32[2,64]")));
}

TEST(CompilerTest, TellsItsProgress) {
  std::vector<std::string> messages;
  std::vector<double> shares;
  CompileOptions options;
  options.progress = [&](absl::string_view what, double done) {
    messages.emplace_back(what);
    shares.push_back(done);
  };
  ASSERT_TRUE(TestingProgram::Chain({kIdentity, kIdentity}).Compile(options).ok());
  ASSERT_EQ(messages.size(), 4);
  EXPECT_EQ(messages[1], "compiling stage 1 'stage1'");
  EXPECT_EQ(shares.front(), 0);
  EXPECT_EQ(shares.back(), 1);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
}

}  // namespace
}  // namespace tfipu
