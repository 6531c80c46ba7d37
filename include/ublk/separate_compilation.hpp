// SPDX-License-Identifier: MIT
#pragma once

// All of the library that does not depend on backends and policies, for one file of a program whose
// files are all compiled with -DUBLK_SEPARATE_COMPILATION: the others then compile faster. Without
// that macro nobody includes this, and the library is header-only.

#include <ublk/device.hpp>
#include <ublk/device/device_core_impl.hpp>

template class ublk::detail::device_core<ublk::detail::linux_kernel>;
