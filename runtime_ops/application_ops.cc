// The ops of the embedded application runtime.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfipu {
namespace {

REGISTER_OP("ApplicationRuntime")
    .Input("inputs: input_types")
    .Input("filename: string")
    .Output("anchor: int32")
    .Attr("input_types: list(type) >= 0")
    .Attr("engine_name: string")
    .Attr("timeout_us: int = 5000")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Starts an engine on an executable file, or attaches to the engine of that name that runs already.

The engine runs for as long as the kernel of any such op, or a Python program, holds it.

inputs: The executable's start-up inputs, in its order.
filename: Path of the executable; a scalar.
anchor: To be passed to ApplicationCall, so that it runs after the start. Its value means nothing.
engine_name: Name of the engine in the process; in a server, in the model's version.
timeout_us: With no further batch for this long while the device holds back results, dummy batches push them out.
  Negative: what the executable says.
)doc");

// The shapes of the results are those of the engine, which is known when the op runs.
REGISTER_OP("ApplicationCall")
    .Input("infeeds: infeed_types")
    .Input("anchor: int32")
    .Output("outfeeds: outfeed_types")
    .Attr("infeed_types: list(type) >= 0")
    .Attr("outfeed_types: list(type) >= 0")
    .Attr("engine_name: string")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::UnknownShape)
    .Doc(R"doc(
Passes one batch through a running engine.

infeeds: One tensor for each infeed of the executable, in its order.
anchor: What ApplicationRuntime returned.
outfeeds: One tensor for each outfeed of the executable, in its order.
engine_name: Name of the engine. FailedPrecondition when none of that name runs.
)doc");

}  // namespace
}  // namespace tfipu
