"""The layers under the names, arguments and rules of older generations and of R.

=====================  ================================================================================================
module                 speaks for
=====================  ================================================================================================
`compat.keras2`        Keras 2, as in TensorFlow 2.0 to 2.15 and in tf_keras
`compat.tf_v1`         ``tf.compat.v1.keras.layers``
`compat.r`             the R packages keras3 (`compat.r` itself, `compat.r.keras3`) and keras (`compat.r.keras`)
=====================  ================================================================================================

Everything here makes layers of `numbalstm`, which carry the generation's name and follow its rules: see the argument
`generation` of `numbalstm.LSTM`.
"""

from numbalstm.compat import keras2, r, tf_v1

__all__ = ["keras2", "r", "tf_v1"]
