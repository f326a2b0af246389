// grpc.reflection: a client asks which services there are and for the files that define them. Its few
// messages are read and written by hand, since no package that we build with holds their descriptors.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "serving/api/error_text.h"
#include "serving/api/rpc_methods.h"
#include "serving/api/slice_stream.h"
#include "tensorflow_serving/apis/model_service.pb.h"
#include "tensorflow_serving/apis/prediction_service.pb.h"

namespace tfipu::serving {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Files that define services have no class that anybody uses, and the linker leaves them out unless it is
// asked for them.
[[gnu::used]] const void* const kLinkedFiles[] = {
    &descriptor_table_tensorflow_5fserving_2fapis_2fmodel_5fservice_2eproto,
    &descriptor_table_tensorflow_5fserving_2fapis_2fprediction_5fservice_2eproto,
};

// The oneof of a ServerReflectionRequest, by field number.
enum Ask {
  kNothing = 0,
  kFileByName = 3,
  kFileOfSymbol = 4,
  kFileOfExtension = 5,
  kExtensionNumbers = 6,
  kServices = 7
};

struct Request {
  std::string host;
  int ask = kNothing;
  std::string argument;        // file, symbol, or type
  std::int32_t extension = 0;  // of kFileOfExtension
};

void PutVarint(std::uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}
void PutBytes(int field, absl::string_view bytes, std::string* out) {
  PutVarint(static_cast<std::uint64_t>(field) << 3 | 2, out);
  PutVarint(bytes.size(), out);
  out->append(bytes.data(), bytes.size());
}
void PutNumber(int field, std::uint64_t value, std::string* out) {
  PutVarint(static_cast<std::uint64_t>(field) << 3, out);
  PutVarint(value, out);
}

bool ReadBytes(CodedInputStream* input, std::string* value) {
  int length = 0;
  return input->ReadVarintSizeAsInt(&length) && input->ReadString(value, length);
}

bool ParseExtension(const std::string& bytes, Request* request) {
  CodedInputStream input(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  while (const std::uint32_t tag = input.ReadTag()) {
    if (tag == (1 << 3 | 2)) {
      if (!ReadBytes(&input, &request->argument)) return false;
    } else if (tag == 2 << 3) {
      std::uint64_t number;
      if (!input.ReadVarint64(&number)) return false;
      request->extension = static_cast<std::int32_t>(number);
    } else if (!WireFormatLite::SkipField(&input, tag)) {
      return false;
    }
  }
  return input.ConsumedEntireMessage();
}

bool Parse(const std::string& bytes, Request* request) {
  CodedInputStream input(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  while (const std::uint32_t tag = input.ReadTag()) {
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED || field == 2 ||
        field > 7) {
      if (!WireFormatLite::SkipField(&input, tag)) return false;
    } else if (field == 1) {
      if (!ReadBytes(&input, &request->host)) return false;
    } else {
      request->ask = field;
      if (!ReadBytes(&input, &request->argument)) return false;
      if (field == kFileOfExtension) {
        const std::string extension = std::move(request->argument);
        request->argument.clear();
        if (!ParseExtension(extension, request)) return false;
      }
    }
  }
  return input.ConsumedEntireMessage();
}

// A file after all that it imports.
void AddFile(const FileDescriptor* file, std::set<const FileDescriptor*>* seen, std::string* files) {
  if (!seen->insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i), seen, files);
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  PutBytes(1, proto.SerializeAsString(), files);
}

void PutError(absl::StatusCode code, absl::string_view message, std::string* response) {
  std::string error;
  PutNumber(1, static_cast<std::uint64_t>(code), &error);
  PutBytes(2, ErrorText(message), &error);
  PutBytes(7, error, response);
}

void PutFile(const FileDescriptor* file, const Request& request, std::string* response) {
  if (file == nullptr) {
    PutError(absl::StatusCode::kNotFound, absl::StrCat("Not found: ", request.argument), response);
    return;
  }
  std::set<const FileDescriptor*> seen;
  std::string files;
  AddFile(file, &seen, &files);
  PutBytes(4, files, response);
}

std::string Answer(const std::string& bytes, const std::vector<std::string>& services) {
  const DescriptorPool* pool = DescriptorPool::generated_pool();
  Request request;
  std::string response;
  const bool parsed = Parse(bytes, &request);
  PutBytes(1, request.host, &response);
  PutBytes(2, bytes, &response);
  if (!parsed) {
    PutError(absl::StatusCode::kInvalidArgument, "The request is not a ServerReflectionRequest", &response);
    return response;
  }
  const google::protobuf::Descriptor* type = nullptr;
  switch (request.ask) {
    case kFileByName:
      PutFile(pool->FindFileByName(request.argument), request, &response);
      break;
    case kFileOfSymbol:
      PutFile(pool->FindFileContainingSymbol(request.argument), request, &response);
      break;
    case kFileOfExtension: {
      type = pool->FindMessageTypeByName(request.argument);
      const auto* extension =
          type == nullptr ? nullptr : pool->FindExtensionByNumber(type, request.extension);
      PutFile(extension == nullptr ? nullptr : extension->file(), request, &response);
      break;
    }
    case kExtensionNumbers: {
      type = pool->FindMessageTypeByName(request.argument);
      if (type == nullptr) {
        PutError(absl::StatusCode::kNotFound, absl::StrCat("Not found: ", request.argument), &response);
        break;
      }
      std::vector<const google::protobuf::FieldDescriptor*> extensions;
      pool->FindAllExtensions(type, &extensions);
      std::string numbers;
      PutBytes(1, request.argument, &numbers);
      for (const auto* extension : extensions)
        PutNumber(2, static_cast<std::uint64_t>(extension->number()), &numbers);
      PutBytes(5, numbers, &response);
      break;
    }
    case kServices: {
      std::string list;
      for (const std::string& name : services) {
        std::string service;
        PutBytes(1, name, &service);
        PutBytes(1, service, &list);
      }
      PutBytes(6, list, &response);
      break;
    }
    default:
      PutError(absl::StatusCode::kUnimplemented, "The request asks for nothing that is known", &response);
  }
  return response;
}

}  // namespace

std::vector<RpcMethod> ReflectionMethods(const std::vector<RpcMethod>& methods, bool health) {
  const std::string v1 = "grpc.reflection.v1.ServerReflection";
  const std::string v1alpha = "grpc.reflection.v1alpha.ServerReflection";
  std::set<std::string> names = {v1, v1alpha};
  if (health) names.insert("grpc.health.v1.Health");
  for (const RpcMethod& method : methods) {
    const std::size_t slash = method.path.rfind('/');
    if (slash != std::string::npos && slash > 1) names.insert(method.path.substr(1, slash - 1));
  }
  auto services = std::make_shared<const std::vector<std::string>>(names.begin(), names.end());
  auto handle = [services](RpcCall* call) {
    std::string bytes;
    for (const Slice& slice : call->request()) bytes.append(static_cast<const char*>(slice.data), slice.size);
    const std::string response = Answer(bytes, *services);
    if (void* reply = call->AllocateReply(response.size()))
      response.copy(static_cast<char*>(reply), response.size());
    call->Finish({});
  };
  std::vector<RpcMethod> reflection;
  for (const std::string& service : {v1, v1alpha}) {
    reflection.push_back({absl::StrCat("/", service, "/ServerReflectionInfo"), handle, /*streaming=*/true});
  }
  return reflection;
}

}  // namespace tfipu::serving
