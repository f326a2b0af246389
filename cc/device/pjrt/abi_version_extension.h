// The part of PJRT's AbiVersion extension that is used here, which the header of the TensorFlow wheel does
// not know yet: the layout of its structures is the interface's.
#ifndef CC_DEVICE_PJRT_ABI_VERSION_EXTENSION_H_
#define CC_DEVICE_PJRT_ABI_VERSION_EXTENSION_H_

#include <cstddef>

#include "xla/pjrt/c/pjrt_c_api.h"

namespace tfipu {

inline constexpr int kAbiVersionExtension = 20;

struct AbiVersion;        // owned by the plugin's library
struct AbiVersionHolder;  // of a proto's bytes

struct GetAbiVersionArgs {
  std::size_t struct_size;
  PJRT_Executable* executable;
  AbiVersion* abi_version;  // out
};

struct DestroyAbiVersionArgs {
  std::size_t struct_size;
  AbiVersion* abi_version;
};

struct AbiVersionToProtoArgs {
  std::size_t struct_size;
  const AbiVersion* abi_version;
  const char* bytes;                   // out
  std::size_t bytes_size;              // out
  AbiVersionHolder* holder;            // out
  void (*deleter)(AbiVersionHolder*);  // out
};

struct AbiVersionExtension {
  PJRT_Extension_Base base;
  void* client_runtime_abi_version;
  PJRT_Error* (*executable_get_abi_version)(GetAbiVersionArgs*);
  void* runtime_functions[5];
  PJRT_Error* (*executable_abi_version_destroy)(DestroyAbiVersionArgs*);
  PJRT_Error* (*executable_abi_version_to_proto)(AbiVersionToProtoArgs*);
};

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_ABI_VERSION_EXTENSION_H_
