// SPDX-License-Identifier: MIT

// Every header a second time in the same program: a function that is not inline, or a definition
// that differs from one file to the next, fails to link. The list is made by CMake.
#include <ublk/ublk.hpp>

#include "all_headers.hpp"
