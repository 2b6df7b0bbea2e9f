#include "jobs/recovery_report.hpp"

#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "jobs/text_fields.hpp"

namespace regroup {
namespace {

double milliseconds(Nanoseconds time) {
  return static_cast<double>(time) / static_cast<double>(kMillisecond);
}

std::string_view name_of(std::optional<EvidenceKind> evidence) {
  if (evidence == EvidenceKind::kConfirmed) return kEvidenceDead;
  if (evidence == EvidenceKind::kUnreachable) return kEvidenceCutOff;
  return evidence ? kEvidenceSilent : kEvidenceTold;
}

std::vector<std::uint32_t> numbers_of(const RankSet& ranks) {
  std::vector<std::uint32_t> numbers;
  for (const RankId rank : ranks) numbers.push_back(rank.value);
  return numbers;
}

std::string named(const std::vector<std::uint32_t>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

std::string_view reason(std::string_view evidence) {
  if (evidence == kEvidenceDead) return ", known dead";
  if (evidence == kEvidenceSilent) return ", silent for too long";
  if (evidence == kEvidenceCutOff) return ", cut off";
  return ", as others said";
}

}  // namespace

RecoveryStatus recovery_status(const Recovery& recovery, Nanoseconds started, Nanoseconds now,
                               std::time_t now_utc) {
  RecoveryStatus status{.epoch = recovery.epoch.value,
                        .lost = numbers_of(recovery.lost),
                        .joined = numbers_of(recovery.joined),
                        .evidence = std::string(name_of(recovery.evidence))};
  status.detected_utc = utc_text(now_utc - (now - recovery.detected) / kSecond);
  status.detected_seconds = milliseconds(recovery.detected - started) / 1e3;
  status.agreed_ms = milliseconds(recovery.entered - recovery.detected);
  if (recovery.resumed) status.resumed_ms = milliseconds(*recovery.resumed - recovery.detected);
  return status;
}

std::string recovery_text(const RecoveryStatus& recovery) {
  std::string text = fmt::format("view {}", recovery.epoch);
  if (!recovery.lost.empty()) {
    text += fmt::format(" without {}{}", named(recovery.lost), reason(recovery.evidence));
  }
  if (!recovery.joined.empty()) text += fmt::format(", with {} back", named(recovery.joined));
  text += fmt::format(": {:.1f} ms to agree", recovery.agreed_ms);
  if (recovery.resumed_ms)
    text += fmt::format(", goes on here after {:.1f} ms", *recovery.resumed_ms);
  return text;
}

std::string recovery_stamps(const Recovery& recovery, RankId self) {
  return fmt::format(
      "recovery: rank {} epoch {} evidence {} detected {} revoked {} entered {} resumed {}",
      self.value, recovery.epoch.value, name_of(recovery.evidence), recovery.detected,
      recovery.revoked, recovery.entered,
      recovery.resumed ? fmt::format("{}", *recovery.resumed) : "-");
}

std::string restored_text(const RestoredFrom& restored) {
  const std::uint64_t all = restored.memory + restored.partner + restored.file;
  if (all == 0) return "";
  return fmt::format(
      "{} came back: {} from the owner's own memory, {} from a partner's, {} from a file",
      counted(all, "partition"), restored.memory, restored.partner, restored.file);
}

}  // namespace regroup
