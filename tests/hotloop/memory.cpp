// SPDX-License-Identifier: MIT
#include "all_policies.hpp"

#include <ublk/backends/memory.hpp>

int main() {
    serve_with_all_policies<ublk::backends::memory>();
}
