// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/io.hpp>
#include <ublk/sim/machine.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace ublk::inline v0::sim {

/// For a backend under test that hands work over (`io::offload`): a simulated thread of the
/// user's, which some time later calls `work()` and answers with what that returns. Called on a
/// queue's thread. A process that was killed has no threads any more: then nothing happens.
template <class Work>
void do_in_users_thread(completion_handle ticket, Work work) {
    machine& on = *machine::here();
    const bool* const killed = on.tasks.running().killed;
    (void)on.tasks.spawn("thread of the user's", [&on, killed, held = std::move(ticket),
                                                  work = std::move(work)]() mutable {
        const auto dead = [killed] { return killed != nullptr && *killed; };
        on.tasks.sleep(on.some_time());
        const result answer = dead() ? std::errc::io_error : result{work()};
        if (dead()) {  // before, or while it worked
            alignas(completion_handle) std::byte grave[sizeof(completion_handle)];
            (void)::new (grave) completion_handle{std::move(held)};  // whose home is gone
        } else {
            std::move(held).answer(answer);
        }
    });
}

}  // namespace ublk::inline v0::sim
