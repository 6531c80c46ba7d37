// SPDX-License-Identifier: MIT
#pragma once

namespace ublk::inline v0 {

/// What backs the tag buffers.
enum class buffer_memory {
    standard,     ///< pages of the usual size
    transparent,  ///< huge pages where the kernel finds some (madvise); never fails
    huge          ///< reserved huge pages (hugetlbfs); transparent where too few are reserved
};

/// What is asked of the memory of tag buffers.
struct tag_buffer_request {
    buffer_memory kind = buffer_memory::standard;
    bool lock = false;    ///< mlock
    bool insist = false;  ///< throw rather than do without
    bool touch = true;    ///< have all pages from the start
};

}  // namespace ublk::inline v0
