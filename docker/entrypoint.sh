#!/bin/sh
# Serves ${MODEL_BASE_PATH}/${MODEL_NAME} at ports 8500 (gRPC) and 8501 (REST). What is given to the container are further flags;
# one that names models otherwise takes the place of the variables.
set -eu
models=variables
for flag; do
  case $flag in
    --model_config_file | --model_config_file=* | --model_base_path | --model_base_path=*) models=flags ;;
  esac
done
if [ "$models" = variables ]; then
  set -- --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
fi
exec tensorflow_model_server --port=8500 --rest_api_port=8501 "$@"
