# grpc_static: Debian's gRPC C++ as archives, for programs that do not link TensorFlow.
#
# tfipu_private_grpc_library(<name> SRCS <file>... KEEP <pattern>...)
#   A static library of one object that holds the sources and all that they use of gRPC, OpenSSL, re2, zlib and abseil, with
#   every symbol local but those that a pattern names. libtensorflow_framework exports other versions of the same libraries:
#   a program that lets the linker mix the two crashes. With one closed object there is nothing to mix, whatever the order on
#   the link line. The sources see Debian's headers and must not include TensorFlow's.

set(grpc_archive_names
    grpc++ grpc gpr address_sorting upb cares re2 ssl crypto z
    absl_bad_optional_access absl_bad_variant_access absl_base absl_city absl_civil_time absl_cord absl_cord_internal
    absl_cordz_functions absl_cordz_handle absl_cordz_info absl_debugging_internal absl_demangle_internal
    absl_exponential_biased absl_graphcycles_internal absl_hash absl_hashtablez_sampler absl_int128 absl_log_severity
    absl_low_level_hash absl_malloc_internal absl_random_distributions absl_random_internal_platform
    absl_random_internal_pool_urbg absl_random_internal_randen absl_random_internal_randen_hwaes
    absl_random_internal_randen_hwaes_impl absl_random_internal_randen_slow absl_random_internal_seed_material
    absl_random_seed_gen_exception absl_random_seed_sequences absl_raw_hash_set absl_raw_logging_internal absl_spinlock_wait
    absl_stacktrace absl_status absl_statusor absl_str_format_internal absl_strerror absl_strings absl_strings_internal
    absl_symbolize absl_synchronization absl_throw_delegate absl_time absl_time_zone)
set(grpc_archives)
foreach(name IN LISTS grpc_archive_names)
  find_library(GRPC_ARCHIVE_${name} lib${name}.a)
  mark_as_advanced(GRPC_ARCHIVE_${name})
  if(NOT GRPC_ARCHIVE_${name})
    message(FATAL_ERROR "lib${name}.a was not found. Install libgrpc++-dev, or build with `make`.")
  endif()
  list(APPEND grpc_archives ${GRPC_ARCHIVE_${name}})
endforeach()
find_program(OBJCOPY_PROGRAM objcopy REQUIRED)

add_library(grpc_static INTERFACE)
target_link_libraries(grpc_static INTERFACE -Wl,--start-group ${grpc_archives} -Wl,--end-group Threads::Threads
                                            ${CMAKE_DL_LIBS})

function(tfipu_private_grpc_library name)
  cmake_parse_arguments(arg "" "" "SRCS;KEEP" ${ARGN})
  add_library(${name}_objects OBJECT ${arg_SRCS})
  target_include_directories(${name}_objects PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name}_objects PRIVATE -Wall -Wextra -Wno-unused-parameter)
  set(closed ${CMAKE_CURRENT_BINARY_DIR}/${name}_closed.o)
  set(keep)
  foreach(pattern IN LISTS arg_KEEP)
    list(APPEND keep --keep-global-symbol=${pattern})
  endforeach()
  # --force-group-allocation: a COMDAT group of this object must not be dropped for another object's of the same name, whose
  # symbols are not the local ones.
  add_custom_command(
    OUTPUT ${closed}
    COMMAND ${CMAKE_LINKER} -r -d --force-group-allocation -o ${closed} $<TARGET_OBJECTS:${name}_objects> --start-group
            ${grpc_archives} --end-group
    COMMAND ${OBJCOPY_PROGRAM} --wildcard ${keep} ${closed}
    DEPENDS ${name}_objects $<TARGET_OBJECTS:${name}_objects>
    COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Closing ${name} over gRPC")
  add_library(${name} STATIC ${closed})
  set_source_files_properties(${closed} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
