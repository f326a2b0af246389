# tfipu_closed_library(<name> SRCS <file>... ARCHIVES <name>... KEEP <pattern>...)
#   A static library of one object that holds the sources and all that they use of the named archives (lib<name>.a), with every
#   symbol local but those that a pattern names. libtensorflow_framework exports other versions of some of these libraries
#   (BoringSSL for OpenSSL, zlib): a program that lets the linker mix the two crashes. With one closed object there is nothing
#   to mix, whatever the order on the link line. The sources must not include TensorFlow's headers.

find_program(OBJCOPY_PROGRAM objcopy REQUIRED)

function(tfipu_closed_library name)
  cmake_parse_arguments(arg "" "" "SRCS;ARCHIVES;KEEP" ${ARGN})
  set(archives)
  foreach(archive IN LISTS arg_ARCHIVES)
    find_library(ARCHIVE_${archive} lib${archive}.a)
    mark_as_advanced(ARCHIVE_${archive})
    if(NOT ARCHIVE_${archive})
      message(FATAL_ERROR "lib${archive}.a was not found. Install Debian's development package of it, or build with `make`.")
    endif()
    list(APPEND archives ${ARCHIVE_${archive}})
  endforeach()
  add_library(${name}_objects OBJECT ${arg_SRCS})
  target_include_directories(${name}_objects PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name}_objects PRIVATE ${TFIPU_WARNINGS})
  set(closed ${CMAKE_CURRENT_BINARY_DIR}/${name}_closed.o)
  set(keep)
  foreach(pattern IN LISTS arg_KEEP)
    list(APPEND keep --keep-global-symbol=${pattern})
  endforeach()
  # --force-group-allocation: a COMDAT group of this object must not be dropped for another object's of the same name, whose
  # symbols are not the local ones. -d: common symbols are allocated here, and so can be made local.
  add_custom_command(
    OUTPUT ${closed}
    COMMAND ${CMAKE_LINKER} -r -d --force-group-allocation -o ${closed} $<TARGET_OBJECTS:${name}_objects> --start-group
            ${archives} --end-group
    COMMAND ${OBJCOPY_PROGRAM} --wildcard ${keep} ${closed}
    DEPENDS ${name}_objects $<TARGET_OBJECTS:${name}_objects>
    COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Closing ${name}")
  add_library(${name} STATIC ${closed})
  set_source_files_properties(${closed} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
