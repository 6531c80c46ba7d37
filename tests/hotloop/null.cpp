// SPDX-License-Identifier: MIT
#include "all_policies.hpp"

#include <ublk/backends/null.hpp>

int main() {
    serve_with_all_policies<ublk::backends::null>();
}
