// SPDX-License-Identifier: MIT
// expect: ublk: a queue policy needs: static std::vector<std::vector<ublk::queue_id>>
//         threads(unsigned queues);

#include "disk.hpp"

#include <vector>

struct two_threads {
    static constexpr bool one_queue_a_thread = false;
    static constexpr bool pinned = false;
#ifdef UBLK_REJECT
    static unsigned threads() {
        return 2;
    }
#else
    static std::vector<std::vector<ublk::queue_id>> threads(unsigned queues) {
        return ublk::shared::threads(queues);
    }
#endif
};

template void serve<disk, two_threads>();
