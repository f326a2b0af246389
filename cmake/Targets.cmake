# The three kinds of target this tree is made of.

# tfipu_library(<name> SRCS <file>... [DEPS <target>...] [PUBLIC_DEFS <def>...])
# A static library with the project's warnings. Include paths start at the tree's root.
function(tfipu_library name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SRCS})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare)
  target_link_libraries(${name} PUBLIC TensorFlow::headers ${arg_DEPS})
endfunction()

# tfipu_test(<name> SRCS <file>... [DEPS <target>...]): a GoogleTest program that ctest runs.
function(tfipu_test name)
  if(NOT TFIPU_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${arg_SRCS})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} TensorFlow::runtime GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES BUILD_RPATH ${TENSORFLOW_DIR})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "TF_CPP_MIN_LOG_LEVEL=2" TIMEOUT 600)
endfunction()
