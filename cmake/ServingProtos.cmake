# serving_protos: C++ classes of the messages of the tensorflow-serving-api package, generated from the descriptors inside it
# ("tensorflow_serving/apis/predict.pb.h" and so on). The classes of TensorFlow's own messages are the wheel's.

set(serving_proto_names
    apis/classification apis/get_model_metadata apis/get_model_status apis/inference apis/input apis/logging apis/model
    apis/model_management apis/model_service apis/predict apis/prediction_log apis/prediction_service apis/regression
    apis/session_service apis/status
    config/file_system_storage_path_source config/log_collector_config config/logging_config config/model_server_config
    config/platform_config)
set(serving_proto_descriptors ${PROJECT_BINARY_DIR}/generated/serving_descriptors.pb)
set(serving_proto_files)
set(serving_proto_sources)
set(serving_proto_outputs)
foreach(name IN LISTS serving_proto_names)
  list(APPEND serving_proto_files tensorflow_serving/${name}.proto)
  list(APPEND serving_proto_sources ${PROJECT_BINARY_DIR}/generated/tensorflow_serving/${name}.pb.cc)
  list(APPEND serving_proto_outputs ${PROJECT_BINARY_DIR}/generated/tensorflow_serving/${name}.pb.cc
       ${PROJECT_BINARY_DIR}/generated/tensorflow_serving/${name}.pb.h)
endforeach()

add_custom_command(
  OUTPUT ${serving_proto_descriptors} ${serving_proto_outputs}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/generated
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/write_serving_descriptors.py ${serving_proto_descriptors}
  COMMAND ${PROTOC_PROGRAM} --descriptor_set_in=${serving_proto_descriptors}
          --cpp_out=${PROJECT_BINARY_DIR}/generated ${serving_proto_files}
  DEPENDS ${CMAKE_CURRENT_LIST_DIR}/write_serving_descriptors.py
  COMMENT "Generating the serving protos' C++ classes"
  VERBATIM)
add_library(serving_protos STATIC ${serving_proto_sources})
target_include_directories(serving_protos SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/generated)
target_link_libraries(serving_protos PUBLIC TensorFlow::headers)
