// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/sim/seam.hpp>

#include <cxxabi.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UBLK_SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define UBLK_SIM_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define UBLK_SIM_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define UBLK_SIM_TSAN 1
#endif

#ifdef UBLK_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef UBLK_SIM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace ublk::inline v0::sim {

/// Forbids this program to touch the memory, where AddressSanitizer can see to it.
inline void forbid([[maybe_unused]] const std::byte* first, [[maybe_unused]] std::size_t bytes) {
#ifdef UBLK_SIM_ASAN
    ASAN_POISON_MEMORY_REGION(first, bytes);
#endif
}
inline void allow([[maybe_unused]] const std::byte* first, [[maybe_unused]] std::size_t bytes) {
#ifdef UBLK_SIM_ASAN
    ASAN_UNPOISON_MEMORY_REGION(first, bytes);
#endif
}

/// The kernel is about to read or write there on behalf of this program, unseen by its sanitizer:
/// what that would have to say is said now.
inline void touch([[maybe_unused]] const void* first, [[maybe_unused]] std::size_t bytes) {
#ifdef UBLK_SIM_ASAN
    void* const bad = __asan_region_is_poisoned(const_cast<void*>(first), bytes);
    if (bad != nullptr) {
        (void)*static_cast<const volatile std::byte*>(bad);
    }
#endif
}

/// The stack of a fiber, above a page that nobody may touch. Given back ones are kept by the
/// thread, since a simulation starts and ends thousands of fibers a second: without what
/// AddressSanitizer forbids of the frames that were left there, which are few where the fiber came
/// to its end.
class fiber_stack {
public:
    static constexpr std::size_t bytes = std::size_t{256} << 10;

    fiber_stack() {
        if (!spare().empty()) {
            memory_ = std::move(spare().back());
            spare().pop_back();
            lowest_ = base();
            return;
        }
        memory_ = mapping{bytes + guard(),
                          PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK,
                          -1,
                          0,
                          "allocating the stack of a simulated thread"};
        (void)::mprotect(memory_.data(), guard(), PROT_NONE);
        lowest_ = base();
    }
    fiber_stack(fiber_stack&&) noexcept = default;
    fiber_stack& operator=(fiber_stack&&) = delete;
    ~fiber_stack() {
        if (memory_.data() != nullptr) {
            allow(lowest_, static_cast<std::size_t>(memory_.data() + memory_.size() - lowest_));
            spare().push_back(std::move(memory_));
        }
    }

    [[nodiscard]] std::byte* base() const noexcept { return memory_.data() + guard(); }

    /// Its fiber leaves it for good: no frame lies below the calling one's.
    [[gnu::always_inline]] void leave() noexcept {
        constexpr std::size_t slack = 1024;  // that frame's own variables
        auto* const frame = static_cast<std::byte*>(__builtin_frame_address(0));
        lowest_ = frame - base() > static_cast<std::ptrdiff_t>(slack) ? frame - slack : base();
    }

private:
    static std::vector<mapping>& spare() {
        static thread_local std::vector<mapping> unused;
        return unused;
    }
    static std::size_t guard() noexcept {
        return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    }

    mapping memory_;
    std::byte* lowest_ = nullptr;  ///< where AddressSanitizer may forbid something, from there on
};

/// A flow of control with a stack of its own: what a simulated thread runs on. One made without a
/// body stands for the thread that made it.
class fiber {
public:
    /// The calling thread.
    fiber() {
#ifdef UBLK_SIM_TSAN
        tsan_ = __tsan_get_current_fiber();
#endif
    }

    /// Runs `body(argument)` once it is switched to. The body never returns: it ends by switching
    /// away for good.
    fiber(void (*body)(void*), void* argument) : body_{body}, argument_{argument} {
        stack_.emplace_back();
        ::getcontext(&context_);
        context_.uc_stack.ss_sp = stack_.front().base();
        context_.uc_stack.ss_size = fiber_stack::bytes;
        context_.uc_link = nullptr;
        // makecontext passes int only.
        const auto self = reinterpret_cast<std::uintptr_t>(this);
        ::makecontext(&context_, reinterpret_cast<void (*)()>(&fiber::enter), 2,
                      static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#ifdef UBLK_SIM_ASAN
        // Else AddressSanitizer allows the whole stack at each switch: what it had to say of the
        // frames there is lost, and it takes as long as all the rest.
        context_.uc_stack = {};
        bottom_ = stack_.front().base();
        size_ = fiber_stack::bytes;
#endif
#ifdef UBLK_SIM_TSAN
        tsan_ = __tsan_create_fiber(0);
#endif
    }

    fiber(const fiber&) = delete;
    fiber& operator=(const fiber&) = delete;
    ~fiber() {
#ifdef UBLK_SIM_TSAN
        if (!stack_.empty()) {
            __tsan_destroy_fiber(tsan_);
        }
#endif
    }

    /// Leaves `from`, which is running, for `to`. Returns when somebody switches back. `last`: it
    /// never will be.
    static void change(fiber& from, fiber& to, bool last = false) {
        // What is being thrown and caught belongs to the flow of control, not to the thread.
        std::memcpy(from.exceptions_, abi::__cxa_get_globals(), sizeof exceptions_);
        std::memcpy(static_cast<void*>(abi::__cxa_get_globals()), to.exceptions_,
                    sizeof exceptions_);
        from.leave_for(to, last);
        if (last) {
            from.stack_.front().leave();
        }
        ::swapcontext(&from.context_, &to.context_);
        from.arrive();
    }

private:
    static void enter(unsigned high, unsigned low) {
        auto* const self = reinterpret_cast<fiber*>(std::uintptr_t{high} << 32 | low);
        self->arrive();
        self->body_(self->argument_);
    }

    void leave_for([[maybe_unused]] fiber& to, [[maybe_unused]] bool last) {
#ifdef UBLK_SIM_ASAN
        to.came_from_ = this;
        __sanitizer_start_switch_fiber(last ? nullptr : &shadow_, to.bottom_, to.size_);
#endif
#ifdef UBLK_SIM_TSAN
        __tsan_switch_to_fiber(to.tsan_, 0);
#endif
    }

    void arrive() {
#ifdef UBLK_SIM_ASAN
        const void* bottom = nullptr;
        std::size_t size = 0;
        __sanitizer_finish_switch_fiber(shadow_, &bottom, &size);
        if (came_from_ != nullptr && came_from_->stack_.empty()) {
            came_from_->bottom_ = bottom;  // of a thread's own stack nobody else knows
            came_from_->size_ = size;
        }
#endif
    }

    ucontext_t context_{};
    void (*body_)(void*) = nullptr;
    void* argument_ = nullptr;
    std::vector<fiber_stack> stack_;  // none or one
    std::byte exceptions_[2 * sizeof(void*)]{};
#ifdef UBLK_SIM_ASAN
    void* shadow_ = nullptr;
    const void* bottom_ = nullptr;
    std::size_t size_ = 0;
    fiber* came_from_ = nullptr;
#endif
#ifdef UBLK_SIM_TSAN
    void* tsan_ = nullptr;
#endif
};

}  // namespace ublk::inline v0::sim
