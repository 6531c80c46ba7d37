# SPDX-License-Identifier: MIT
# cmake -C cmake/cache/gcc.cmake -S . -B DIR
set(CMAKE_CXX_COMPILER g++ CACHE STRING "")
