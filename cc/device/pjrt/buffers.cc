#include "cc/device/pjrt/buffers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "cc/base/status_macros.h"
#include "cc/executable/executable.h"

namespace tfipu {
namespace {

void DestroyEvent(const Plugin* plugin, PJRT_Event* event) {
  auto args = PjrtArgs<PJRT_Event_Destroy_Args>();
  args.event = event;
  plugin->Call(&PJRT_Api::PJRT_Event_Destroy, args).IgnoreError();
}

struct Waiting {
  const Plugin* plugin;
  PJRT_Event* event;
  std::function<void(absl::Status)> done;
};

void OnReady(PJRT_Error* error, void* user_arg) {
  const std::unique_ptr<Waiting> waiting(static_cast<Waiting*>(user_arg));
  absl::Status status = waiting->plugin->ToStatus(error);
  DestroyEvent(waiting->plugin, waiting->event);
  waiting->done(std::move(status));
}

}  // namespace

PJRT_Buffer_Type ToPjrtType(ElementType type) {
  switch (type) {
    case FLOAT32:
      return PJRT_Buffer_Type_F32;
    case FLOAT64:
      return PJRT_Buffer_Type_F64;
    case FLOAT16:
      return PJRT_Buffer_Type_F16;
    case BFLOAT16:
      return PJRT_Buffer_Type_BF16;
    case INT8:
      return PJRT_Buffer_Type_S8;
    case INT16:
      return PJRT_Buffer_Type_S16;
    case INT32:
      return PJRT_Buffer_Type_S32;
    case INT64:
      return PJRT_Buffer_Type_S64;
    case UINT8:
      return PJRT_Buffer_Type_U8;
    case UINT16:
      return PJRT_Buffer_Type_U16;
    case UINT32:
      return PJRT_Buffer_Type_U32;
    case UINT64:
      return PJRT_Buffer_Type_U64;
    case BOOL:
      return PJRT_Buffer_Type_PRED;
    case COMPLEX64:
      return PJRT_Buffer_Type_C64;
    case COMPLEX128:
      return PJRT_Buffer_Type_C128;
    default:
      return PJRT_Buffer_Type_INVALID;
  }
}

DeviceBuffer::~DeviceBuffer() {
  auto args = PjrtArgs<PJRT_Buffer_Destroy_Args>();
  args.buffer = buffer_;
  plugin_->Call(&PJRT_Api::PJRT_Buffer_Destroy, args).IgnoreError();
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> DeviceBuffer::FromHost(const Plugin* plugin,
                                                                     PJRT_Client* client, PJRT_Device* device,
                                                                     const TensorSpec& spec,
                                                                     ConstBuffer bytes) {
  auto args = PjrtArgs<PJRT_Client_BufferFromHostBuffer_Args>();
  args.client = client;
  args.data = bytes.data();
  args.type = ToPjrtType(spec.type());
  args.dims = spec.dims().data();
  args.num_dims = spec.dims_size();
  // Nothing of the step is read after the call, whatever the plugin does then.
  args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
  args.device = device;
  TFIPU_RETURN_IF_ERROR(plugin->Call(&PJRT_Api::PJRT_Client_BufferFromHostBuffer, args));
  if (args.done_with_host_buffer != nullptr) DestroyEvent(plugin, args.done_with_host_buffer);
  if (args.buffer == nullptr) return absl::InternalError("the plugin made no buffer");
  return std::make_shared<DeviceBuffer>(plugin, args.buffer);
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> DeviceBuffer::CopyTo(PJRT_Device* device) const {
  auto args = PjrtArgs<PJRT_Buffer_CopyToDevice_Args>();
  args.buffer = buffer_;
  args.dst_device = device;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Buffer_CopyToDevice, args));
  if (args.dst_buffer == nullptr) return absl::InternalError("the plugin made no copy of a buffer");
  return std::make_shared<DeviceBuffer>(plugin_, args.dst_buffer);
}

absl::StatusOr<PJRT_Event*> DeviceBuffer::CopyToHost(const TensorSpec& spec, MutableBuffer to) const {
  std::vector<std::int64_t> minor_to_major(spec.dims_size());
  for (std::size_t i = 0; i < minor_to_major.size(); ++i) minor_to_major[i] = minor_to_major.size() - 1 - i;
  auto layout = PjrtArgs<PJRT_Buffer_MemoryLayout>();
  layout.type = PJRT_Buffer_MemoryLayout_Type_Tiled;
  layout.tiled = PjrtArgs<PJRT_Buffer_MemoryLayout_Tiled>();
  layout.tiled.minor_to_major = minor_to_major.data();
  layout.tiled.minor_to_major_size = minor_to_major.size();
  auto args = PjrtArgs<PJRT_Buffer_ToHostBuffer_Args>();
  args.src = buffer_;
  args.host_layout = &layout;
  args.dst = to.data();
  args.dst_size = to.size();
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Buffer_ToHostBuffer, args));
  if (args.event == nullptr) return absl::InternalError("the plugin gave no event for a copy to the host");
  return args.event;
}

bool DeviceBuffer::OnHost() const {
  if (!plugin_->Has(&PJRT_Api::PJRT_Buffer_UnsafePointer)) return false;
  auto args = PjrtArgs<PJRT_Buffer_IsOnCpu_Args>();
  args.buffer = buffer_;
  return plugin_->Call(&PJRT_Api::PJRT_Buffer_IsOnCpu, args).ok() && args.is_on_cpu;
}

absl::StatusOr<const void*> DeviceBuffer::HostPointer() const {
  auto args = PjrtArgs<PJRT_Buffer_UnsafePointer_Args>();
  args.buffer = buffer_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Buffer_UnsafePointer, args));
  return reinterpret_cast<const void*>(args.buffer_pointer);
}

absl::Status DeviceBuffer::CheckSpec(const TensorSpec& spec) const {
  auto type = PjrtArgs<PJRT_Buffer_ElementType_Args>();
  type.buffer = buffer_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Buffer_ElementType, type));
  auto dims = PjrtArgs<PJRT_Buffer_Dimensions_Args>();
  dims.buffer = buffer_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Buffer_Dimensions, dims));
  const absl::Span<const std::int64_t> found(dims.dims, dims.num_dims);
  if (type.type == ToPjrtType(spec.type()) &&
      std::equal(found.begin(), found.end(), spec.dims().begin(), spec.dims().end())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the plugin gives a result of its type ", type.type, " and shape [", absl::StrJoin(found, ","),
      "], expected ", ToString(spec), " (its type ", ToPjrtType(spec.type()), ")"));
}

void WhenReady(const Plugin* plugin, PJRT_Event* event, std::function<void(absl::Status)> done) {
  auto ready = PjrtArgs<PJRT_Event_IsReady_Args>();
  ready.event = event;
  if (plugin->Call(&PJRT_Api::PJRT_Event_IsReady, ready).ok() && ready.is_ready) {
    auto error = PjrtArgs<PJRT_Event_Error_Args>();
    error.event = event;
    absl::Status status = plugin->Call(&PJRT_Api::PJRT_Event_Error, error);
    DestroyEvent(plugin, event);
    done(std::move(status));
    return;
  }
  auto waiting = std::make_unique<Waiting>(Waiting{plugin, event, std::move(done)});
  auto args = PjrtArgs<PJRT_Event_OnReady_Args>();
  args.event = event;
  args.callback = &OnReady;
  args.user_arg = waiting.get();
  absl::Status status = plugin->Call(&PJRT_Api::PJRT_Event_OnReady, args);
  if (status.ok()) {
    waiting.release();  // the callback has it, or had it
    return;
  }
  DestroyEvent(plugin, event);
  waiting->done(std::move(status));
}

}  // namespace tfipu
