// Runs of decimal numbers in a JSON array, read with what vector instructions the machine has.
#ifndef SERVING_JSON_FLOAT_RUN_H_
#define SERVING_JSON_FLOAT_RUN_H_

namespace tfipu::serving::json {

// Reads numbers from `p` into [*out, out_end) as long as each is an ordinary one that a comma follows, and
// there is room. Moves *out behind the last one, and returns where to go on: at a number or the white space
// before it. `end` is the text's; values are the correctly rounded ones.
const char* ReadFloatRun(const char* p, const char* end, float** out, float* out_end);

namespace float_run_internal {

// The same on any machine, and on those with AVX2, for tests.
const char* ReadPortable(const char* p, const char* end, float** out, float* out_end);
const char* ReadAvx2(const char* p, const char* end, float** out, float* out_end);
bool HaveAvx2();

}  // namespace float_run_internal
}  // namespace tfipu::serving::json

#endif  // SERVING_JSON_FLOAT_RUN_H_
