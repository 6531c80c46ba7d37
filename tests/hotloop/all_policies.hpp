// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/ublk.hpp>

// Such a program is there to be disassembled. It is linked, so that each call has a name, and never
// run.
template <class Backend, class QueuePolicy>
void serve_with_each_batch_policy() {
    ublk::device<Backend, QueuePolicy, ublk::per_wakeup>{Backend{1u << 20}}.start();
    ublk::device<Backend, QueuePolicy, ublk::each>{Backend{1u << 20}}.start();
    ublk::device<Backend, QueuePolicy, ublk::up_to<16>>{Backend{1u << 20}}.start();
}

template <class Backend>
void serve_with_all_policies() {
    serve_with_each_batch_policy<Backend, ublk::per_cpu>();
    serve_with_each_batch_policy<Backend, ublk::shared>();
}
