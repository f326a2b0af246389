// Random mixes of all that an engine does: every call is answered exactly once, and every answer has exactly
// the rows of its own call. ENGINE_PROPERTY_CASES and ENGINE_PROPERTY_SEED say how many cases and which.
#ifndef CC_ENGINE_ENGINE_PROPERTY_H_
#define CC_ENGINE_ENGINE_PROPERTY_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "cc/device/device.h"
#include "cc/engine/fake_device.h"

namespace tfipu {

// The program of fake_device.h in that shape, on another kind of device, which holds nothing back.
using ProgramMaker = std::function<std::shared_ptr<Program>(const FakeShape& shape)>;

// Inside a test, which fails when the property does not hold. Without a maker: on scripted devices, which
// fail now and then.
void RunEngineProperty(std::uint64_t default_cases, const ProgramMaker& make_program = nullptr);

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_PROPERTY_H_
