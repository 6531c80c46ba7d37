// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <exception>
#include <new>
#include <span>

namespace ublk::inline v0::detail {

/// The memory of one tag's coroutine frames: a stack, taken once, at start. Frames mostly go in the
/// reverse order of their coming; one that goes earlier stays as it is until all above it are gone,
/// which decorators rely on (backends/operation_calls.hpp).
class frame_memory {
public:
    frame_memory() noexcept = default;
    explicit frame_memory(std::span<std::byte> memory) noexcept : memory_{memory} {}

    /// Null where it does not fit.
    [[nodiscard]] void* allocate(std::size_t bytes) noexcept {
        const std::size_t size =
            (bytes + sizeof(frame) + alignof(frame) - 1) & ~(alignof(frame) - 1);
        if (size > memory_.size() - top_) [[unlikely]] {
            note_too_large(size);
            return nullptr;
        }
        frame* const made = ::new (memory_.data() + top_) frame{this, last_, false};
        last_ = made;
        top_ += size;
        return made + 1;
    }

    static void release(void* memory) noexcept {
        frame* const gone = static_cast<frame*>(memory) - 1;
        gone->free = true;
        gone->home->shrink();
    }

    /// Bytes in use.
    [[nodiscard]] std::size_t used() const noexcept { return top_; }

    /// What went wrong with a request's coroutines, apart from what they answered.
    [[nodiscard]] bool has_failures() const noexcept { return failed_; }
    /// Bytes that a frame would have needed that did not fit; 0: all did.
    [[nodiscard]] std::size_t wanted() const noexcept { return wanted_; }
    [[nodiscard]] bool never_ran() const noexcept { return never_ran_; }
    [[nodiscard]] const std::exception_ptr& thrown() const noexcept { return thrown_; }
    void forget_failures() noexcept {
        failed_ = false;
        wanted_ = 0;
        never_ran_ = false;
        thrown_ = nullptr;
        shrink();
    }

    /// An exception is being handled that left a coroutine, or something that it called.
    [[gnu::cold]] void note_exception() noexcept {
        thrown_ = std::current_exception();
        failed_ = true;
    }

    /// False for a frame that came last and is taken for one at `memory`: g++ 12 puts a temporary
    /// before everything else into some frames, and then goes wrong about where they are. Clang is
    /// not asked, since it may put a frame into another one instead.
    [[nodiscard]] bool last_is([[maybe_unused]] const void* memory) const noexcept {
#if defined(__clang__)
        return true;
#else
        return last_ + 1 == memory;
#endif
    }
    /// It is none that can be run. What it takes is given back with the next, since whoever made it
    /// is not done with it.
    [[gnu::cold]] void give_up_last() noexcept {
        last_->free = true;
        never_ran_ = true;
        failed_ = true;
    }

private:
    struct alignas(std::max_align_t) frame {
        frame_memory* home;
        frame* below;
        bool free;
    };

    [[gnu::cold, gnu::noinline]] void note_too_large(std::size_t size) noexcept {
        wanted_ = top_ + size > wanted_ ? top_ + size : wanted_;
        failed_ = true;
    }

    void shrink() noexcept {
        while (last_ != nullptr && last_->free) {
            top_ = static_cast<std::size_t>(reinterpret_cast<std::byte*>(last_) - memory_.data());
            last_ = last_->below;
        }
    }

    std::span<std::byte> memory_;
    std::size_t top_ = 0;
    frame* last_ = nullptr;
    std::size_t wanted_ = 0;
    std::exception_ptr thrown_;
    bool never_ran_ = false;
    bool failed_ = false;
};

}  // namespace ublk::inline v0::detail
