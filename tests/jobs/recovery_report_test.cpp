#include "jobs/recovery_report.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr Nanoseconds kStarted = 100 * kSecond;

Recovery a_recovery() {
  return {.epoch = Epoch{2},
          .lost = RankSet{RankId{2}},
          .joined = {},
          .evidence = EvidenceKind::kConfirmed,
          .detected = kStarted + 3 * kSecond,
          .revoked = kStarted + 3 * kSecond + kMillisecond,
          .entered = kStarted + 3 * kSecond + 4 * kMillisecond,
          .resumed = kStarted + 3 * kSecond + 5 * kMillisecond};
}

RecoveryStatus status_of(const Recovery& recovery) {
  return recovery_status(recovery, kStarted, kStarted + 10 * kSecond, 1'000'000'007);
}

TEST(RecoveryReport, CountsFromTheFirstEvidence) {
  const RecoveryStatus status = status_of(a_recovery());

  EXPECT_EQ(status.epoch, 2u);
  EXPECT_EQ(status.lost, (std::vector<std::uint32_t>{2}));
  EXPECT_EQ(status.evidence, "dead");
  EXPECT_EQ(status.detected_utc, "2001-09-09T01:46:40Z");
  EXPECT_DOUBLE_EQ(status.detected_seconds, 3.0);
  EXPECT_DOUBLE_EQ(status.agreed_ms, 4.0);
  EXPECT_DOUBLE_EQ(status.resumed_ms.value(), 5.0);
}

TEST(RecoveryReport, SaysWhatHappened) {
  Recovery recovery = a_recovery();
  EXPECT_EQ(recovery_text(status_of(recovery)),
            "view 2 without rank 2, known dead: 4.0 ms to agree, goes on here after 5.0 ms");
  recovery.evidence = EvidenceKind::kSuspected;
  recovery.lost.insert(RankId{5});
  recovery.resumed.reset();
  EXPECT_EQ(recovery_text(status_of(recovery)),
            "view 2 without ranks 2, 5, silent for too long: 4.0 ms to agree");
  recovery.evidence.reset();
  recovery.lost = {};
  recovery.joined = RankSet{RankId{1}};
  EXPECT_EQ(recovery_text(status_of(recovery)), "view 2, with rank 1 back: 4.0 ms to agree");
}

TEST(RecoveryReport, StampsAreRaw) {
  Recovery recovery = a_recovery();
  EXPECT_EQ(recovery_stamps(recovery, RankId{1}),
            "recovery: rank 1 epoch 2 evidence dead detected 103000000000 revoked 103001000000 "
            "entered 103004000000 resumed 103005000000");
  recovery.resumed.reset();
  recovery.evidence.reset();
  EXPECT_EQ(recovery_stamps(recovery, RankId{1}),
            "recovery: rank 1 epoch 2 evidence told detected 103000000000 revoked 103001000000 "
            "entered 103004000000 resumed -");
}

}  // namespace
}  // namespace regroup
