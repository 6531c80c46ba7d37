// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <utility>

namespace ublk::inline v0::detail {

/// Sole owner of a memory mapping.
class mapping {
public:
    mapping() noexcept = default;

    /// mmap(2) with the kernel's choice of address. Throws `error` with the errno of mmap and
    /// `step` in its text.
    mapping(std::size_t bytes, int protection, int flags, int file, off_t offset, const char* step)
        : bytes_{bytes} {
        void* const address = ::mmap(nullptr, bytes, protection, flags, file, offset);
        if (address == MAP_FAILED) {
            const int code = errno;  // before the sentence is allocated
            fail(code, step, std::nullopt,
                 "mmap of " + std::to_string(bytes) + " bytes was refused");
        }
        data_ = static_cast<std::byte*>(address);
    }

    mapping(mapping&& other) noexcept
        : data_{std::exchange(other.data_, nullptr)}, bytes_{std::exchange(other.bytes_, 0)},
          unmapped_{std::exchange(other.unmapped_, nullptr)}, witness_{other.witness_} {}
    mapping& operator=(mapping&& other) noexcept {
        mapping taken{std::move(other)};
        std::swap(data_, taken.data_);
        std::swap(bytes_, taken.bytes_);
        std::swap(unmapped_, taken.unmapped_);
        std::swap(witness_, taken.witness_);
        return *this;
    }
    ~mapping() {
        if (data_ != nullptr) {
            ::munmap(data_, bytes_);
        }
        if (unmapped_ != nullptr) {
            unmapped_(witness_);
        }
    }

    /// Leaves this memory out of forked children, where touching it then is a fault. A child keeps
    /// no reference to the mapped file, and writing here after a fork copies no page.
    void keep_from_children() noexcept {
        (void)::madvise(data_, bytes_, MADV_DONTFORK);  // refused only where nothing is mapped
    }

    /// Calls `unmapped(witness)` after the memory is unmapped: a simulated kernel learns of it so.
    void tell_when_unmapped(void (*unmapped)(void*) noexcept, void* witness) noexcept {
        unmapped_ = unmapped;
        witness_ = witness;
    }

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

private:
    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
    void (*unmapped_)(void*) noexcept = nullptr;
    void* witness_ = nullptr;
};

}  // namespace ublk::inline v0::detail
