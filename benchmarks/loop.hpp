// SPDX-License-Identifier: MIT
#pragma once

#include "matrix.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace benchmark {

/// The loop of a queue thread for one disk of the matrix, on a port that answers at once.
struct loop {
    std::string name;
    /// Serves requests of 4 KiB for so many turns of 64; returns how many requests.
    std::uint64_t (*run)(const settings&, bool writes, unsigned turns);
};

/// Those with backend number `Index`; one translation unit each.
template <std::size_t Index>
std::vector<loop> loops_with_backend();

}  // namespace benchmark
