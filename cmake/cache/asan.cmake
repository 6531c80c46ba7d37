# SPDX-License-Identifier: MIT
# cmake -C cmake/cache/asan.cmake -S . -B DIR
set(CMAKE_CXX_COMPILER g++ CACHE STRING "")
set(UBLK_SANITIZE address,undefined CACHE STRING "")
