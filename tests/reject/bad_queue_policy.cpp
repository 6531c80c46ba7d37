// SPDX-License-Identifier: MIT
// expect: ublk: a queue policy needs: static std::vector<ublk::thread_shares>
//         threads(const ublk::queue_facts&);

#include "disk.hpp"

#include <vector>

struct two_threads {
    static constexpr bool single_queue = false;
#ifdef UBLK_REJECT
    static unsigned threads() {
        return 2;
    }
#else
    static std::vector<ublk::thread_shares> threads(const ublk::queue_facts& facts) {
        return ublk::shared::threads(facts);
    }
#endif
};

template void serve<disk, two_threads>();
