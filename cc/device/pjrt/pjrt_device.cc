#include "cc/device/pjrt/pjrt_device.h"

#include <pthread.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"

namespace tfipu {

struct PjrtDevice::Values {
  const PjrtStages& stages;
  const FixedArguments& fixed;
  Flight& flight;
  const std::shared_ptr<Flight>& shared;
  std::vector<std::vector<Located>> infeeds;  // by index: where each lies already
  std::vector<std::vector<Located>> results;  // of each stage
};

absl::StatusOr<std::unique_ptr<PjrtDevice>> PjrtDevice::Create(std::shared_ptr<const PjrtLoaded> loaded,
                                                               absl::Span<const ConstBuffer> startup_inputs) {
  const std::size_t devices = loaded->executable->header().target().num_ipus();
  auto placement = loaded->client->Choose(devices);
  std::unique_ptr<PjrtDevice> device(new PjrtDevice(std::move(loaded), std::move(placement)));
  if (absl::Status status = device->Prepare(startup_inputs); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("A device of the PJRT plugin cannot hold the program: ",
                                                    status.message()));
  }
  return device;
}

PjrtDevice::PjrtDevice(std::shared_ptr<const PjrtLoaded> loaded, std::unique_ptr<Client::Placement> placement)
    : loaded_(std::move(loaded)),
      placement_(std::move(placement)),
      header_(loaded_->executable->header()),
      plugin_(&loaded_->client->plugin()),
      flights_(std::make_shared<Flights>(plugin_, loaded_->steps_in_flight, loaded_->step_timeout)),
      carried_(header_.carried_size()) {}

PjrtDevice::~PjrtDevice() {
  flights_->Stop();
  if (watch_.joinable()) watch_.join();
}

absl::Status PjrtDevice::Prepare(absl::Span<const ConstBuffer> startup_inputs) {
  if (startup_inputs.size() != header_.startup_inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Found ", startup_inputs.size(), " start-up inputs, expected ", header_.startup_inputs_size()));
  }
  for (int i = 0; i < header_.startup_inputs_size(); ++i) {
    const TensorSpec& spec = header_.startup_inputs(i);
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(spec));
    if (startup_inputs[i].size() != size) {
      return absl::InvalidArgumentError(absl::StrCat("Found ", startup_inputs[i].size(),
                                                     " bytes for start-up input ", i, " '", spec.name(),
                                                     "', expected ", size, " for ", ToString(spec)));
    }
    Located& input = startup_inputs_.emplace_back();
    TFIPU_ASSIGN_OR_RETURN(
        input.buffer, DeviceBuffer::FromHost(plugin_, loaded_->client->get(), placement_->device(0), spec,
                                             startup_inputs[i]));
  }
  TFIPU_ASSIGN_OR_RETURN(fixed_.emplace_back(), FixedArgumentsOf(loaded_->whole.header));
  for (const PjrtStages& variant : loaded_->variants) {
    TFIPU_ASSIGN_OR_RETURN(fixed_.emplace_back(), FixedArgumentsOf(variant.header));
  }
  if (loaded_->steps_in_flight == 1) return absl::OkStatus();
  try {
    watch_ = std::thread([flights = flights_] { flights->Watch(); });
    pthread_setname_np(watch_.native_handle(), "pjrt_watch");
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("No thread could be started: ", error.what()));
  }
  return absl::OkStatus();
}

absl::StatusOr<PjrtDevice::FixedArguments> PjrtDevice::FixedArgumentsOf(const ExecutableHeader& header) {
  FixedArguments fixed;
  Flight copies;  // only for the lifetime of the copies that are made on the way
  for (const Stage& stage : header.stages()) {
    std::vector<BufferPtr>& arguments = fixed.emplace_back();
    for (const ValueRef& ref : stage.arguments()) {
      BufferPtr& argument = arguments.emplace_back();
      if (ref.source() == ValueRef::WEIGHT) {
        TFIPU_ASSIGN_OR_RETURN(argument, loaded_->weights->Get(ref.index(), placement_->device(stage.ipu())));
      } else if (ref.source() == ValueRef::STARTUP_INPUT) {
        TFIPU_ASSIGN_OR_RETURN(argument, OnDevice(startup_inputs_[ref.index()], stage.ipu(), copies));
      }
    }
  }
  return fixed;
}

std::optional<DeviceFailure> PjrtDevice::Run(StepSource& source) {
  flights_->Begin(&source);
  first_in_run_ = true;
  std::uint64_t in_run = 0;
  while (Step* step = flights_->Next()) {
    auto flight = std::make_shared<Flight>();
    flight->step = step;
    flight->program = loaded_;
    flights_->Enter(flight);
    flights_->Launched(flight, step->dummy ? absl::OkStatus() : Launch(*flight, flight));
    if (++in_run == header_.iterations()) {
      in_run = 0;
      first_in_run_ = true;
      source.RunEnded();
    }
  }
  std::optional<DeviceFailure> failure = flights_->End();
  std::fill(carried_.begin(), carried_.end(), Located());
  return failure;
}

absl::Status PjrtDevice::Reset() {
  flights_->Reset();
  return absl::OkStatus();
}

absl::Status PjrtDevice::Launch(Flight& flight, const std::shared_ptr<Flight>& shared) {
  const PjrtStages& stages = loaded_->ForRows(flight.step->computed_rows);
  const std::size_t form = &stages == &loaded_->whole ? 0 : &stages - loaded_->variants.data() + 1;
  Values values{stages, fixed_[form], flight, shared, {}, {}};
  values.infeeds.resize(header_.infeeds_size());
  values.results.resize(header_.stages_size());
  for (int s = 0; s < header_.stages_size(); ++s) TFIPU_RETURN_IF_ERROR(RunStage(s, values));
  for (int i = 0; i < header_.outfeeds_size(); ++i) TFIPU_RETURN_IF_ERROR(Fetch(i, values));
  for (int c = 0; c < header_.carried_size(); ++c) {
    const ValueRef& next = header_.carried(c).next();
    carried_[c] = values.results[next.stage()][next.index()];
  }
  first_in_run_ = false;
  return absl::OkStatus();
}

absl::Status PjrtDevice::RunStage(int s, Values& values) {
  const Stage& stage = values.stages.header.stages(s);
  const std::uint32_t device = stage.ipu();
  std::vector<PJRT_Buffer*> arguments;
  std::vector<std::int64_t> kept;
  for (int i = 0; i < stage.arguments_size(); ++i) {
    const ValueRef& ref = stage.arguments(i);
    if (const BufferPtr& fixed = values.fixed[s][i]) {
      arguments.push_back(fixed->get());
      continue;
    }
    // What a carried value starts as is needed again.
    if (ref.source() == ValueRef::CARRIED && first_in_run_) kept.push_back(i);
    TFIPU_ASSIGN_OR_RETURN(const Located value, ValueOf(ref, device, values));
    TFIPU_ASSIGN_OR_RETURN(const BufferPtr buffer, OnDevice(value, device, values.flight));
    arguments.push_back(buffer->get());
  }
  std::vector<BufferPtr> results;
  TFIPU_ASSIGN_OR_RETURN(PJRT_Event * complete, values.stages.stages[s]->Execute(placement_->device(device),
                                                                                 arguments, kept, results));
  flights_->Await(values.shared, complete);
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (check_types_) TFIPU_RETURN_IF_ERROR(results[i]->CheckSpec(stage.results(i)));
    values.flight.buffers.push_back(results[i]);
    values.results[s].push_back({std::move(results[i]), device});
  }
  return absl::OkStatus();
}

absl::Status PjrtDevice::Fetch(int outfeed, Values& values) {
  const ValueRef& ref = values.stages.header.outfeed_values(outfeed);
  const TensorSpec& spec = values.stages.header.outfeeds(outfeed);
  TFIPU_ASSIGN_OR_RETURN(const Located value, ValueOf(ref, 0, values));
  Flight::Result result;
  result.outfeed = outfeed;
  TFIPU_ASSIGN_OR_RETURN(result.size, TensorSize(spec));
  // The flight waits for the stage's event. What a later step may overwrite cannot be read then.
  if (ref.source() == ValueRef::STAGE_RESULT && value.buffer->OnHost()) {
    result.buffer = value.buffer;
    values.flight.results.push_back(std::move(result));
    return absl::OkStatus();
  }
  result.staging = AlignedBuffer(result.size);
  TFIPU_ASSIGN_OR_RETURN(PJRT_Event * copied, value.buffer->CopyToHost(spec, result.staging.span()));
  values.flight.buffers.push_back(value.buffer);
  values.flight.results.push_back(std::move(result));
  flights_->Await(values.shared, copied);
  return absl::OkStatus();
}

absl::StatusOr<PjrtDevice::Located> PjrtDevice::ValueOf(const ValueRef& ref, std::uint32_t device,
                                                        Values& values) {
  const ExecutableHeader& header = values.stages.header;
  const std::uint32_t index = ref.index();
  switch (ref.source()) {
    case ValueRef::INFEED: {
      std::vector<Located>& places = values.infeeds[index];
      for (const Located& place : places) {
        if (place.device == device) return place;
      }
      const TensorSpec& spec = header.infeeds(index);
      TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(spec));
      TFIPU_ASSIGN_OR_RETURN(
          BufferPtr buffer,
          DeviceBuffer::FromHost(plugin_, loaded_->client->get(), placement_->device(device), spec,
                                 values.flight.step->infeeds[index].subspan(0, size)));
      values.flight.buffers.push_back(buffer);
      return places.emplace_back(Located{std::move(buffer), device});
    }
    case ValueRef::STARTUP_INPUT:
      return startup_inputs_[index];
    case ValueRef::WEIGHT: {
      TFIPU_ASSIGN_OR_RETURN(BufferPtr buffer, loaded_->weights->Get(index, placement_->device(device)));
      return Located{std::move(buffer), device};
    }
    case ValueRef::CARRIED:
      if (first_in_run_) return ValueOf(header.carried(index).initial(), device, values);
      return carried_[index];
    default:
      return values.results[ref.stage()][index];
  }
}

absl::StatusOr<PjrtDevice::BufferPtr> PjrtDevice::OnDevice(const Located& value, std::uint32_t device,
                                                           Flight& flight) {
  if (value.device == device) {
    flight.buffers.push_back(value.buffer);
    return value.buffer;
  }
  TFIPU_ASSIGN_OR_RETURN(BufferPtr copy, value.buffer->CopyTo(placement_->device(device)));
  flight.buffers.push_back(copy);
  return copy;
}

}  // namespace tfipu
