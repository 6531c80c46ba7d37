# SPDX-License-Identifier: MIT
# cmake -C cmake/cache/tsan.cmake -S . -B DIR
set(CMAKE_CXX_COMPILER g++ CACHE STRING "")
set(UBLK_SANITIZE thread CACHE STRING "")
