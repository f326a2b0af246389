// Holds the precompiled TensorFlow headers: see cmake/Targets.cmake.
