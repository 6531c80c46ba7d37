// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/mapping.hpp>
#include <ublk/units.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace ublk::inline v0 {

/// What backs the tag buffers.
enum class pages {
    standard,     ///< pages of the usual size
    transparent,  ///< huge pages where the kernel finds some (madvise); never fails
    huge          ///< reserved huge pages (hugetlbfs); start fails where too few are reserved
};

/// The buffers of one queue's tags in copy mode, one a tag, allocated once.
///
/// Every page is touched here: if the driver faults while copying a write in, it shortens the
/// descriptor and then completes the whole request all the same (ublk_start_io), which is lost
/// data.
class buffers {
public:
    buffers() noexcept = default;

    /// Of `stride` bytes each, a multiple of the page size. Call it in the thread that will use the
    /// buffers, so that they come from its NUMA node. Where that thread only serves every `step`-th
    /// tag, the others get no memory of their own: the buffers lie closer. Throws `error`.
    buffers(std::size_t tags, std::size_t stride, pages kind, bool lock, std::size_t step = 1)
        : stride_{stride}, pitch_{round_up((stride + step - 1) / step, least_page)} {
        constexpr std::size_t huge_page = std::size_t{2} << 20;
        const std::size_t unit = kind == pages::standard ? least_page : huge_page;
        const std::size_t bytes = round_up((tags - 1) * pitch_ + stride_, unit);
        map(bytes, kind);
        memory_.keep_from_children();
        std::memset(memory_.data(), 0, memory_.size());
        if (lock && ::mlock(memory_.data(), memory_.size()) != 0) {
            const int code = errno;  // before the sentence is allocated
            fail(
                code, "locking tag buffers", std::nullopt,
                std::to_string(bytes) + " bytes exceed the limit on locked memory",
                "raise `ulimit -l`, or ask for less depth, fewer queues or a smaller max_io_bytes");
        }
    }

    [[nodiscard]] std::byte* operator[](tag which) const noexcept {
        return memory_.data() + which.value() * pitch_;
    }

    /// Bytes of one buffer.
    [[nodiscard]] std::size_t stride() const noexcept { return stride_; }

private:
    static constexpr std::size_t least_page = 4096;  // mmap rounds up to the machine's

    // MAP_HUGE_2MB, which older headers lack: the default size may be another.
    static constexpr int huge_2mb = 21 << 26;

    void map(std::size_t bytes, pages kind) {
        const int flags =
            MAP_PRIVATE | MAP_ANONYMOUS | (kind == pages::huge ? MAP_HUGETLB | huge_2mb : 0);
        try {
            memory_ =
                mapping{bytes, PROT_READ | PROT_WRITE, flags, -1, 0, "allocating tag buffers"};
        } catch (const error& refused) {
            fail(refused.errno_value(), "allocating tag buffers", std::nullopt,
                 std::string{refused.cause()},
                 kind == pages::huge
                     ? "reserve huge pages (vm.nr_hugepages), or ask for pages::transparent"
                     : "ask for less depth, fewer queues or a smaller max_io_bytes");
        }
        if (kind == pages::transparent) {
            (void)::madvise(memory_.data(), memory_.size(), MADV_HUGEPAGE);
        }
    }

    mapping memory_;
    std::size_t stride_ = 0;
    std::size_t pitch_ = 0;  ///< from one tag to the next
};

}  // namespace ublk::inline v0
