# The kinds of target this tree is made of.

set(TFIPU_WARNINGS -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare)
if(TFIPU_WERROR)
  list(APPEND TFIPU_WARNINGS -Werror)
endif()

# TensorFlow's headers take seconds to parse: this is done once, for all targets that ask for it.
add_library(tensorflow_precompiled STATIC ${PROJECT_SOURCE_DIR}/cmake/tensorflow_precompiled.cc)
target_compile_options(tensorflow_precompiled PRIVATE ${TFIPU_WARNINGS})
target_link_libraries(tensorflow_precompiled PUBLIC TensorFlow::headers)
target_precompile_headers(
  tensorflow_precompiled PRIVATE <functional> <map> <memory> <string> <vector>
  <tensorflow/core/framework/op_kernel.h> <tensorflow/core/framework/tensor.h>
  <tensorflow/core/protobuf/meta_graph.pb.h> <tensorflow/core/public/session.h> <absl/strings/str_cat.h>
  <absl/synchronization/mutex.h>)

# tfipu_library(<name> SRCS <file>... [DEPS <target>...] [TENSORFLOW])
# A static library with the project's warnings. Include paths start at the tree's root. TENSORFLOW: its sources
# include TensorFlow's session or kernel headers, and use the precompiled ones.
function(tfipu_library name)
  cmake_parse_arguments(arg "TENSORFLOW" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SRCS})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${TFIPU_WARNINGS})
  target_link_libraries(${name} PUBLIC TensorFlow::headers ${arg_DEPS})
  if(arg_TENSORFLOW)
    target_precompile_headers(${name} REUSE_FROM tensorflow_precompiled)
  endif()
endfunction()

# Linking against TensorFlow's gigabyte takes GNU ld 8 s of CPU and gold 2. The products keep the default linker.
find_program(GOLD_LINKER ld.gold)

# tfipu_test(<name> SRCS <file>... [DEPS <target>...] [TENSORFLOW]): a GoogleTest program that ctest runs.
function(tfipu_test name)
  if(NOT TFIPU_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "TENSORFLOW" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${arg_SRCS})
  # -fPIC by hand, as CMake gives programs -fPIE, with which the precompiled headers could not be used.
  set_target_properties(${name} PROPERTIES BUILD_RPATH ${TENSORFLOW_DIR} POSITION_INDEPENDENT_CODE OFF)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -fPIC ${TFIPU_WARNINGS})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} TensorFlow::runtime GTest::gmock GTest::gtest_main)
  if(GOLD_LINKER)
    target_link_options(${name} PRIVATE -fuse-ld=gold)
  endif()
  if(arg_TENSORFLOW)
    target_precompile_headers(${name} REUSE_FROM tensorflow_precompiled)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "TF_CPP_MIN_LOG_LEVEL=2" TIMEOUT 600)
endfunction()

# tfipu_fuzzer(<name> SRCS <file>... [DEPS <target>...]): a libFuzzer program, built by the target `fuzzers` when the
# compiler is clang. SRCS are the fuzz target and the sources it drives, again: with the counters that guide it. The
# program <name>_test, run with --seeds, writes the seeds to <name>.corpus beside it.
function(tfipu_fuzzer name)
  if(NOT TFIPU_BUILD_TESTS OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${arg_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} TensorFlow::runtime)
  set_target_properties(${name} PROPERTIES BUILD_RPATH ${TENSORFLOW_DIR})
  add_dependencies(${name} ${name}_test)
  add_custom_command(
    TARGET ${name} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E make_directory $<TARGET_FILE:${name}>.corpus
    COMMAND ${name}_test --seeds $<TARGET_FILE:${name}>.corpus
    VERBATIM)
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_dependencies(fuzzers ${name})
endfunction()
