# SPDX-License-Identifier: MIT
# cmake -C cmake/cache/clang.cmake -S . -B DIR
set(CMAKE_CXX_COMPILER clang++ CACHE STRING "")
