"""The method of Keras models that exports them. What it needs is imported when it is called."""

from __future__ import annotations

from typing import Any


def export_for_ipu_serving(
    self: Any,
    export_dir: str,
    batch_size: Any = None,
    output_names: Any = None,
    preprocessing_step: Any = None,
    preprocessing_step_signature: Any = None,
    postprocessing_step: Any = None,
    postprocessing_step_signature: Any = None,
    purge_export_dir: bool = False,
    **options: Any,
) -> Any:
    """Exports the model for TensorFlow Serving; see `tensorflow_ipu.serving.export_keras()`."""
    from tensorflow_ipu.keras.export import export_keras

    return export_keras(
        self,
        export_dir,
        batch_size=batch_size,
        output_names=output_names,
        preprocessing_step=preprocessing_step,
        preprocessing_step_signature=preprocessing_step_signature,
        postprocessing_step=postprocessing_step,
        postprocessing_step_signature=postprocessing_step_signature,
        purge_export_dir=purge_export_dir,
        **options,
    )
