// A row-batching program in the forms that compute fewer rows.
#ifndef CC_EXECUTABLE_ROW_VARIANTS_H_
#define CC_EXECUTABLE_ROW_VARIANTS_H_

#include <vector>

#include "absl/status/status.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The header as it would be if the program had been compiled for the variant's number of rows: its stages,
// and feeds with that leading dimension.
ExecutableHeader HeaderOfVariant(const ExecutableHeader& header, const RowVariant& variant);

// InvalidArgument unless the variants are in order of their rows, fewer than the batch each, and each is the
// same program: as many stages on the same IPUs, with results of the same types, that read the same values
// (weights, which come last, may be others). `header` is valid apart from them.
absl::Status ValidateRowVariants(const ExecutableHeader& header);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_ROW_VARIANTS_H_
