// A PJRT plugin for tests, in a library of its own. A program's code is text: a line "TYPE DIM DIM ..." for
// each result, every element of which is twice that of the first argument, plus that of the second one if
// there is one of the same size. What goes wrong is told by the environment, which is read at every call:
//   FAKE_PJRT_FAIL         functions that return an error, with commas between them
//   FAKE_PJRT_CODE         the error's code; 13 (INTERNAL) when not set
//   FAKE_PJRT_EVENTS       when events become ready: "late" (from another thread), "never", "fail" (late,
//   with an
//                          error); at once when not set
//   FAKE_PJRT_HANG         a function that never returns
//   FAKE_PJRT_OUTPUT       the type that results are said to have: F64
//   FAKE_PJRT_STRUCT_SIZE, FAKE_PJRT_MINOR, FAKE_PJRT_PLATFORM, FAKE_PJRT_PLATFORM_VERSION, FAKE_PJRT_KIND,
//   FAKE_PJRT_CAPABILITY, FAKE_PJRT_DEVICES, FAKE_PJRT_XLA_VERSION, FAKE_PJRT_ON_CPU
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "xla/pjrt/c/pjrt_c_api.h"

struct PJRT_Error {
  PJRT_Error_Code code;
  std::string message;
};

struct PJRT_DeviceDescription {
  std::string kind, capability;
  std::vector<PJRT_NamedValue> attributes;
};

struct PJRT_Device {
  PJRT_DeviceDescription description;
};

struct PJRT_Client {
  std::string platform, version;
  std::vector<std::unique_ptr<PJRT_Device>> devices;
  std::vector<PJRT_Device*> pointers;
};

struct PJRT_Buffer {
  PJRT_Buffer_Type type;
  std::vector<std::int64_t> dims;
  std::vector<float> values;
};

struct PJRT_Executable {
  std::vector<PJRT_Buffer> results;  // without values
  std::vector<PJRT_Buffer_Type> types;
  std::vector<std::int64_t> dims;
  std::vector<std::size_t> ranks;
};

struct PJRT_LoadedExecutable {
  std::shared_ptr<PJRT_Executable> executable;
};

struct PJRT_Event {
  std::mutex mutex;
  bool ready = false;
  bool failed = false;
  std::function<void()> callback;
};

namespace {

std::string Setting(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

PJRT_Error* Error(const std::string& message) {
  const std::string code = Setting("FAKE_PJRT_CODE", "13");
  return new PJRT_Error{static_cast<PJRT_Error_Code>(std::atoi(code.c_str())), message};
}

// What every function begins with.
PJRT_Error* Trouble(const std::string& function) {
  if (Setting("FAKE_PJRT_HANG") == function) {
    while (true) pause();
  }
  const std::string all = "," + Setting("FAKE_PJRT_FAIL") + ",";
  return all.find("," + function + ",") == std::string::npos ? nullptr : Error(function + " fails");
}

#define TROUBLE(function) \
  if (PJRT_Error* error = Trouble(#function); error != nullptr) return error

PJRT_Event* NewEvent() {
  auto* event = new PJRT_Event;
  const std::string when = Setting("FAKE_PJRT_EVENTS");
  if (when.empty()) {
    event->ready = true;
  } else if (when != "never") {
    std::thread([event, fails = when == "fail"] {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::function<void()> callback;
      {
        std::lock_guard<std::mutex> lock(event->mutex);
        event->failed = fails;
        event->ready = true;
        callback = std::move(event->callback);
      }
      if (callback) callback();
    }).detach();
  }
  return event;
}

PJRT_Error* OutcomeOf(PJRT_Event* event) { return event->failed ? Error("the event failed") : nullptr; }

std::int64_t CountOf(const PJRT_Buffer& buffer) {
  std::int64_t count = 1;
  for (std::int64_t dim : buffer.dims) count *= dim;
  return count;
}

std::shared_ptr<PJRT_Executable> Parse(const std::string& code) {
  auto executable = std::make_shared<PJRT_Executable>();
  std::istringstream lines(code);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string type;
    words >> type;
    if (type != "F32") return nullptr;
    PJRT_Buffer result{PJRT_Buffer_Type_F32, {}, {}};
    for (std::int64_t dim; words >> dim;) result.dims.push_back(dim);
    executable->types.push_back(Setting("FAKE_PJRT_OUTPUT") == "F64" ? PJRT_Buffer_Type_F64 : result.type);
    executable->dims.insert(executable->dims.end(), result.dims.begin(), result.dims.end());
    executable->ranks.push_back(result.dims.size());
    executable->results.push_back(std::move(result));
  }
  return executable;
}

void ErrorDestroy(PJRT_Error_Destroy_Args* args) { delete args->error; }

void ErrorMessage(PJRT_Error_Message_Args* args) {
  args->message = args->error->message.data();
  args->message_size = args->error->message.size();
}

PJRT_Error* ErrorGetCode(PJRT_Error_GetCode_Args* args) {
  args->code = args->error->code;
  return nullptr;
}

PJRT_Error* PluginInitialize(PJRT_Plugin_Initialize_Args*) {
  TROUBLE(PJRT_Plugin_Initialize);
  return nullptr;
}

PJRT_Error* PluginAttributes(PJRT_Plugin_Attributes_Args* args) {
  TROUBLE(PJRT_Plugin_Attributes);
  static std::string* const version = new std::string(Setting("FAKE_PJRT_XLA_VERSION", "2"));
  static PJRT_NamedValue value{};
  value.name = "xla_version";
  value.name_size = std::strlen(value.name);
  value.type = PJRT_NamedValue_kString;
  value.string_value = version->data();
  value.value_size = version->size();
  args->attributes = &value;
  args->num_attributes = 1;
  return nullptr;
}

PJRT_Error* EventDestroy(PJRT_Event_Destroy_Args* args) {
  TROUBLE(PJRT_Event_Destroy);
  // One that is not ready is still somebody else's.
  if (args->event->ready) delete args->event;
  return nullptr;
}

PJRT_Error* EventIsReady(PJRT_Event_IsReady_Args* args) {
  TROUBLE(PJRT_Event_IsReady);
  std::lock_guard<std::mutex> lock(args->event->mutex);
  args->is_ready = args->event->ready;
  return nullptr;
}

PJRT_Error* EventError(PJRT_Event_Error_Args* args) {
  TROUBLE(PJRT_Event_Error);
  return OutcomeOf(args->event);
}

PJRT_Error* EventOnReady(PJRT_Event_OnReady_Args* args) {
  TROUBLE(PJRT_Event_OnReady);
  PJRT_Event* event = args->event;
  const auto call = [event, callback = args->callback, user_arg = args->user_arg] {
    callback(OutcomeOf(event), user_arg);
  };
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    if (!event->ready) {
      event->callback = call;
      return nullptr;
    }
  }
  call();
  return nullptr;
}

PJRT_Error* ClientCreate(PJRT_Client_Create_Args* args) {
  TROUBLE(PJRT_Client_Create);
  if (!Setting("FAKE_PJRT_REFUSES_OPTIONS").empty() && args->num_options > 0) {
    std::ostringstream unknown;
    for (std::size_t i = 0; i < args->num_options; ++i) {
      const PJRT_NamedValue& option = args->create_options[i];
      unknown << " " << std::string(option.name, option.name_size) << "=";
      option.type == PJRT_NamedValue_kBool ? unknown << option.bool_value : unknown << option.float_value;
    }
    return Error("unknown options:" + unknown.str());
  }
  auto* client = new PJRT_Client;
  client->platform = Setting("FAKE_PJRT_PLATFORM", "fake");
  client->version = Setting("FAKE_PJRT_PLATFORM_VERSION", "fake 1");
  const int devices = std::atoi(Setting("FAKE_PJRT_DEVICES", "2").c_str());
  for (int i = 0; i < devices; ++i) {
    auto device = std::make_unique<PJRT_Device>();
    PJRT_DeviceDescription& description = device->description;
    description.kind = Setting("FAKE_PJRT_KIND", "Fake 1000");
    description.capability = Setting("FAKE_PJRT_CAPABILITY", "1.0");
    PJRT_NamedValue& value = description.attributes.emplace_back();
    value = {};
    value.name = "compute_capability";
    value.name_size = std::strlen(value.name);
    value.type = PJRT_NamedValue_kString;
    value.string_value = description.capability.data();
    value.value_size = description.capability.size();
    client->pointers.push_back(device.get());
    client->devices.push_back(std::move(device));
  }
  args->client = client;
  return nullptr;
}

PJRT_Error* ClientAddressableDevices(PJRT_Client_AddressableDevices_Args* args) {
  TROUBLE(PJRT_Client_AddressableDevices);
  args->addressable_devices = args->client->pointers.data();
  args->num_addressable_devices = args->client->pointers.size();
  return nullptr;
}

PJRT_Error* ClientPlatformName(PJRT_Client_PlatformName_Args* args) {
  TROUBLE(PJRT_Client_PlatformName);
  args->platform_name = args->client->platform.data();
  args->platform_name_size = args->client->platform.size();
  return nullptr;
}

PJRT_Error* ClientPlatformVersion(PJRT_Client_PlatformVersion_Args* args) {
  TROUBLE(PJRT_Client_PlatformVersion);
  args->platform_version = args->client->version.data();
  args->platform_version_size = args->client->version.size();
  return nullptr;
}

PJRT_Error* DeviceGetDescription(PJRT_Device_GetDescription_Args* args) {
  TROUBLE(PJRT_Device_GetDescription);
  args->device_description = &args->device->description;
  return nullptr;
}

PJRT_Error* DeviceDescriptionKind(PJRT_DeviceDescription_Kind_Args* args) {
  TROUBLE(PJRT_DeviceDescription_Kind);
  args->device_kind = args->device_description->kind.data();
  args->device_kind_size = args->device_description->kind.size();
  return nullptr;
}

PJRT_Error* DeviceDescriptionAttributes(PJRT_DeviceDescription_Attributes_Args* args) {
  TROUBLE(PJRT_DeviceDescription_Attributes);
  args->attributes = args->device_description->attributes.data();
  args->num_attributes = args->device_description->attributes.size();
  return nullptr;
}

PJRT_Error* BufferFromHostBuffer(PJRT_Client_BufferFromHostBuffer_Args* args) {
  TROUBLE(PJRT_Client_BufferFromHostBuffer);
  auto* buffer = new PJRT_Buffer{args->type, {args->dims, args->dims + args->num_dims}, {}};
  buffer->values.resize(CountOf(*buffer));
  std::memcpy(buffer->values.data(), args->data, buffer->values.size() * sizeof(float));
  args->buffer = buffer;
  args->done_with_host_buffer = new PJRT_Event;
  args->done_with_host_buffer->ready = true;
  return nullptr;
}

PJRT_Error* DeserializeAndLoad(PJRT_Executable_DeserializeAndLoad_Args* args) {
  TROUBLE(PJRT_Executable_DeserializeAndLoad);
  auto executable = Parse({args->serialized_executable, args->serialized_executable_size});
  if (executable == nullptr) return Error("it is not code of the fake plugin");
  args->loaded_executable = new PJRT_LoadedExecutable{std::move(executable)};
  return nullptr;
}

PJRT_Error* LoadedExecutableDestroy(PJRT_LoadedExecutable_Destroy_Args* args) {
  TROUBLE(PJRT_LoadedExecutable_Destroy);
  delete args->executable;
  return nullptr;
}

PJRT_Error* LoadedExecutableGetExecutable(PJRT_LoadedExecutable_GetExecutable_Args* args) {
  TROUBLE(PJRT_LoadedExecutable_GetExecutable);
  args->executable = args->loaded_executable->executable.get();
  return nullptr;
}

PJRT_Error* ExecutableDestroy(PJRT_Executable_Destroy_Args*) {
  TROUBLE(PJRT_Executable_Destroy);
  return nullptr;
}

PJRT_Error* ExecutableNumOutputs(PJRT_Executable_NumOutputs_Args* args) {
  TROUBLE(PJRT_Executable_NumOutputs);
  args->num_outputs = args->executable->results.size();
  return nullptr;
}

PJRT_Error* ExecutableOutputElementTypes(PJRT_Executable_OutputElementTypes_Args* args) {
  TROUBLE(PJRT_Executable_OutputElementTypes);
  args->output_types = args->executable->types.data();
  args->num_output_types = args->executable->types.size();
  return nullptr;
}

PJRT_Error* ExecutableOutputDimensions(PJRT_Executable_OutputDimensions_Args* args) {
  TROUBLE(PJRT_Executable_OutputDimensions);
  args->num_outputs = args->executable->ranks.size();
  args->dims = args->executable->dims.data();
  args->dim_sizes = args->executable->ranks.data();
  return nullptr;
}

PJRT_Error* Execute(PJRT_LoadedExecutable_Execute_Args* args) {
  TROUBLE(PJRT_LoadedExecutable_Execute);
  const auto& results = args->executable->executable->results;
  for (std::size_t i = 0; i < results.size(); ++i) {
    auto* result = new PJRT_Buffer(results[i]);
    result->values.resize(CountOf(*result));
    for (std::size_t k = 0; k < result->values.size() && args->num_args > 0; ++k) {
      const std::vector<float>& first = args->argument_lists[0][0]->values;
      if (k < first.size()) result->values[k] = 2 * first[k];
      if (args->num_args > 1 && args->argument_lists[0][1]->values.size() == result->values.size()) {
        result->values[k] += args->argument_lists[0][1]->values[k];
      }
    }
    args->output_lists[0][i] = result;
  }
  if (args->device_complete_events != nullptr) args->device_complete_events[0] = NewEvent();
  return nullptr;
}

PJRT_Error* BufferDestroy(PJRT_Buffer_Destroy_Args* args) {
  TROUBLE(PJRT_Buffer_Destroy);
  delete args->buffer;
  return nullptr;
}

PJRT_Error* BufferElementType(PJRT_Buffer_ElementType_Args* args) {
  TROUBLE(PJRT_Buffer_ElementType);
  args->type = args->buffer->type;
  return nullptr;
}

PJRT_Error* BufferDimensions(PJRT_Buffer_Dimensions_Args* args) {
  TROUBLE(PJRT_Buffer_Dimensions);
  args->dims = args->buffer->dims.data();
  args->num_dims = args->buffer->dims.size();
  return nullptr;
}

PJRT_Error* BufferCopyToDevice(PJRT_Buffer_CopyToDevice_Args* args) {
  TROUBLE(PJRT_Buffer_CopyToDevice);
  args->dst_buffer = new PJRT_Buffer(*args->buffer);
  return nullptr;
}

PJRT_Error* BufferToHostBuffer(PJRT_Buffer_ToHostBuffer_Args* args) {
  TROUBLE(PJRT_Buffer_ToHostBuffer);
  std::memcpy(args->dst, args->src->values.data(), args->src->values.size() * sizeof(float));
  args->event = NewEvent();
  return nullptr;
}

PJRT_Error* BufferIsOnCpu(PJRT_Buffer_IsOnCpu_Args* args) {
  TROUBLE(PJRT_Buffer_IsOnCpu);
  args->is_on_cpu = !Setting("FAKE_PJRT_ON_CPU").empty();
  return nullptr;
}

PJRT_Error* BufferUnsafePointer(PJRT_Buffer_UnsafePointer_Args* args) {
  TROUBLE(PJRT_Buffer_UnsafePointer);
  args->buffer_pointer = reinterpret_cast<std::uintptr_t>(args->buffer->values.data());
  return nullptr;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const PJRT_Api* GetPjrtApi() {
  static PJRT_Api api{};
  api.struct_size = std::strtoul(
      Setting("FAKE_PJRT_STRUCT_SIZE", std::to_string(sizeof(api)).c_str()).c_str(), nullptr, 10);
  api.pjrt_api_version.struct_size = sizeof(api.pjrt_api_version);
  api.pjrt_api_version.minor_version = std::atoi(Setting("FAKE_PJRT_MINOR", "90").c_str());
  api.PJRT_Error_Destroy = ErrorDestroy;
  api.PJRT_Error_Message = ErrorMessage;
  api.PJRT_Error_GetCode = ErrorGetCode;
  api.PJRT_Plugin_Initialize = PluginInitialize;
  api.PJRT_Plugin_Attributes = PluginAttributes;
  api.PJRT_Event_Destroy = EventDestroy;
  api.PJRT_Event_IsReady = EventIsReady;
  api.PJRT_Event_Error = EventError;
  api.PJRT_Event_OnReady = EventOnReady;
  api.PJRT_Client_Create = ClientCreate;
  api.PJRT_Client_AddressableDevices = ClientAddressableDevices;
  api.PJRT_Client_PlatformName = ClientPlatformName;
  api.PJRT_Client_PlatformVersion = ClientPlatformVersion;
  api.PJRT_Device_GetDescription = DeviceGetDescription;
  api.PJRT_DeviceDescription_Kind = DeviceDescriptionKind;
  api.PJRT_DeviceDescription_Attributes = DeviceDescriptionAttributes;
  api.PJRT_Client_BufferFromHostBuffer = BufferFromHostBuffer;
  api.PJRT_Executable_DeserializeAndLoad = DeserializeAndLoad;
  api.PJRT_LoadedExecutable_Destroy = LoadedExecutableDestroy;
  api.PJRT_LoadedExecutable_GetExecutable = LoadedExecutableGetExecutable;
  api.PJRT_Executable_Destroy = ExecutableDestroy;
  api.PJRT_Executable_NumOutputs = ExecutableNumOutputs;
  api.PJRT_Executable_OutputElementTypes = ExecutableOutputElementTypes;
  api.PJRT_Executable_OutputDimensions = ExecutableOutputDimensions;
  api.PJRT_LoadedExecutable_Execute = Execute;
  api.PJRT_Buffer_Destroy = BufferDestroy;
  api.PJRT_Buffer_ElementType = BufferElementType;
  api.PJRT_Buffer_Dimensions = BufferDimensions;
  api.PJRT_Buffer_CopyToDevice = BufferCopyToDevice;
  api.PJRT_Buffer_ToHostBuffer = BufferToHostBuffer;
  api.PJRT_Buffer_IsOnCpu = BufferIsOnCpu;
  api.PJRT_Buffer_UnsafePointer = BufferUnsafePointer;
  return &api;
}
