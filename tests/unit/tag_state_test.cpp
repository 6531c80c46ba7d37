// SPDX-License-Identifier: MIT
#include <ublk/data/tag_state.hpp>

#include <gtest/gtest.h>

#include <array>

namespace slot_test {
namespace {

using ublk::slot;
using owner = ublk::slot::owner;

// A slot that has got as far as that owner.
slot in(owner wanted) {
    slot s;
    if (wanted != owner::nobody) {
        s.offer();
    }
    if (wanted == owner::server) {
        s.take();
    }
    if (wanted == owner::gone) {
        s.lose();
    }
    return s;
}

TEST(slot, a_new_one_belongs_to_nobody) {
    EXPECT_EQ(slot{}.owned_by(), owner::nobody);
}

TEST(slot, a_request_goes_round_as_often_as_it_likes) {
    slot s;
    s.offer();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(s.owned_by(), owner::kernel);
        s.take();
        EXPECT_EQ(s.owned_by(), owner::server);
        s.offer();
    }
    s.lose();
    EXPECT_EQ(s.owned_by(), owner::gone);
}

TEST(slot, offering_what_the_kernel_holds_or_took_for_good_asserts) {
    for (const owner from : {owner::kernel, owner::gone}) {
        EXPECT_DEATH(in(from).offer(), "only a tag that the server holds");
    }
}

TEST(slot, taking_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).take(), "the kernel only sends requests on tags that it holds");
    }
}

TEST(slot, a_request_that_is_answered_at_once_leaves_it_with_the_kernel) {
    slot s = in(owner::kernel);
    s.pass();
    EXPECT_EQ(s.owned_by(), owner::kernel);
}

TEST(slot, passing_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).pass(), "the kernel only sends requests on tags that it holds");
    }
}

TEST(slot, losing_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).lose(), "the kernel only aborts tags that it holds");
    }
}

}  // namespace
}  // namespace slot_test
