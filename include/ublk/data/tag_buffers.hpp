// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/buffer_memory.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/error.hpp>
#include <ublk/units.hpp>

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

namespace ublk::inline v0::detail {

/// The buffers of one queue's tags in copy mode, one a tag, allocated once.
///
/// Every page is touched here: if the driver faults while copying a write in, it shortens the
/// descriptor and then completes the whole request all the same (ublk_start_io), which is lost
/// data.
class tag_buffers {
public:
    tag_buffers() noexcept = default;

    /// Of `stride` bytes each, a multiple of the page size. Call it in the thread that will use the
    /// buffers, so that they come from its NUMA node. Where that thread only serves every `step`-th
    /// tag, the others get no memory of their own: the buffers lie closer. Throws `error`.
    tag_buffers(std::size_t tags, std::size_t stride, const tag_buffer_request& requested,
                std::size_t step = 1)
        : stride_{stride}, pitch_{round_up((stride + step - 1) / step, least_page)} {
        const std::size_t bytes = (tags - 1) * pitch_ + stride_;
        if (requested.kind != buffer_memory::huge || !map_huge(bytes, requested.insist)) {
            map_plain(bytes, requested.kind != buffer_memory::standard);
        }
        memory_.keep_from_children();
        if (requested.touch) {
            std::memset(memory_.data(), 0, memory_.size());
        }
        if (requested.lock) {
            lock(requested.insist);
        }
    }

    /// What was asked for and is not there, and why, in a sentence; "" where all is.
    [[nodiscard]] const std::string& fallback() const noexcept { return fallback_; }

    [[nodiscard]] std::byte* operator[](tag t) const noexcept {
        return memory_.data() + t.value() * pitch_;
    }

    /// Bytes of one buffer.
    [[nodiscard]] std::size_t stride() const noexcept { return stride_; }

private:
    static constexpr std::size_t least_page = 4096;  // mmap rounds up to the machine's

    static constexpr std::size_t huge_page = std::size_t{2} << 20;

    // MAP_HUGE_2MB and MADV_POPULATE_WRITE, which older headers lack. The default size of huge
    // pages may be another.
    static constexpr int huge_2mb = 21 << 26;
    static constexpr int populate_write = 23;

    void map_plain(std::size_t bytes, bool transparent) {
        const std::size_t size = transparent ? round_up(bytes, huge_page) : bytes;
        try {
            map(size, 0);
        } catch (const error& refused) {
            fail(refused.errno_value(), "allocating tag buffers", std::nullopt,
                 std::string{refused.cause()},
                 "ask for less depth, fewer queues or a smaller max_io_bytes");
        }
        if (transparent) {
            (void)::madvise(memory_.data(), memory_.size(), MADV_HUGEPAGE);
        }
    }

    /// A limit of a cgroup is met only when the pages are touched, and then by SIGBUS: so they are
    /// asked for (MADV_POPULATE_WRITE, Linux 5.14).
    bool map_huge(std::size_t bytes, bool insist) {
        int code = 0;
        try {
            map(round_up(bytes, huge_page), MAP_HUGETLB | huge_2mb);
            const bool there = ::madvise(memory_.data(), memory_.size(), populate_write) == 0;
            code = there || errno == EINVAL ? 0 : errno;
        } catch (const error& refused) {
            code = refused.errno_value();
        }
        if (code == 0) {
            return true;
        }
        memory_ = {};
        miss(code, "allocating tag buffers in huge pages", "too few huge pages are reserved",
             "reserve huge pages (vm.nr_hugepages), or ask for buffer_memory::transparent", insist);
        return false;
    }

    void lock(bool insist) {
        if (::mlock(memory_.data(), memory_.size()) != 0) {
            const int code = errno;  // before the sentence is allocated
            miss(code, "locking tag buffers",
                 std::to_string(memory_.size()) + " bytes exceed the limit on locked memory",
                 "raise `ulimit -l`, or ask for less depth, fewer queues or a smaller max_io_bytes",
                 insist);
        }
    }

    void miss(int code, const char* step, const std::string& cause, const char* remedy,
              bool insist) {
        const error refused{code, step, std::nullopt, cause, remedy};
        if (insist) {
            throw refused;
        }
        fallback_ += (fallback_.empty() ? "" : "; ") + refused.reason();
    }

    void map(std::size_t bytes, int flags) {
        memory_ = mapping{bytes, PROT_READ | PROT_WRITE,  MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
                          0,     "allocating tag buffers"};
    }

    mapping memory_;
    std::string fallback_;
    std::size_t stride_ = 0;
    std::size_t pitch_ = 0;  ///< from one tag to the next
};

}  // namespace ublk::inline v0::detail
