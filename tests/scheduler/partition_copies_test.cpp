// What a rank keeps in memory of partitions: which copy stays, how much is kept for others, whose
// memory is used again.
#include "scheduler/partition_copies.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/protocol/bulk.hpp"
#include "runtime/protocol/wire.hpp"
#include "scheduler/copy_transfer.hpp"

namespace regroup {
namespace {

constexpr RankId kSelf{1};
constexpr RankId kWard{0};
constexpr PartitionId kThree{StageId{0}, 3};
constexpr PartitionId kFour{StageId{0}, 4};

bool nobody(RankId) {
  return false;
}

PartitionCopy copy_of(RankId owner, std::uint64_t held, std::size_t bytes) {
  auto content = std::make_shared<Buffer>();
  content->resize(bytes);
  std::memset(content->data(), static_cast<int>(held), bytes);
  return {content, held, 1, owner};
}

class Keeping : public testing::Test {
 protected:
  Keeping() { copies.begin(kSelf, 100); }
  bool keep(PartitionId partition, RankId owner, std::uint64_t held, std::size_t bytes,
            const std::function<bool(RankId)>& let_go = nobody) {
    return copies.keep(partition, copy_of(owner, held, bytes), let_go);
  }
  PartitionCopies copies;
};

TEST_F(Keeping, TheCopyThatKnowsMostStays) {
  ASSERT_TRUE(keep(kThree, kWard, 5, 10));
  EXPECT_TRUE(keep(kThree, kWard, 4, 10)) << "there is a better one";
  EXPECT_EQ(copies.find(kThree)->held, 5u);
  EXPECT_TRUE(keep(kThree, kWard, 6, 20));
  EXPECT_EQ(copies.find(kThree)->held, 6u);
  EXPECT_EQ(copies.bytes_for_others(), 20u);
  EXPECT_EQ(copies.find(kFour), nullptr);
}

TEST_F(Keeping, BeyondTheBoundCopiesAreRefusedAndWhatIsThereStays) {
  ASSERT_TRUE(keep(kThree, kWard, 5, 60));
  EXPECT_FALSE(keep(kFour, kWard, 5, 41));
  EXPECT_FALSE(keep(kThree, kWard, 6, 101)) << "not even in the place of the one before";
  EXPECT_EQ(copies.find(kThree)->held, 5u);
  EXPECT_TRUE(keep(kThree, kWard, 6, 100));
  EXPECT_TRUE(keep(kFour, kSelf, 5, 1000)) << "its own have no bound";
  EXPECT_EQ(copies.bytes_for_others(), 100u);
}

TEST_F(Keeping, CopiesOfRanksWithAnotherPartnerGoFirst) {
  ASSERT_TRUE(keep(kThree, RankId{7}, 5, 60));
  EXPECT_TRUE(keep(kFour, kWard, 5, 60, [](RankId of) { return of == RankId{7}; }));
  EXPECT_EQ(copies.find(kThree), nullptr);
  EXPECT_EQ(copies.bytes_for_others(), 60u);
}

TEST_F(Keeping, ACopyThatTheRankMadeItsOwnCountsForNobodyElse) {
  ASSERT_TRUE(keep(kThree, kWard, 5, 60));
  PartitionCopy same = *copies.find(kThree);
  same.of = kSelf;
  EXPECT_TRUE(copies.keep(kThree, std::move(same), nobody));
  EXPECT_EQ(copies.find(kThree)->of, kSelf);
  EXPECT_EQ(copies.bytes_for_others(), 0u);
}

TEST_F(Keeping, StagesThatAreOverGo) {
  ASSERT_TRUE(keep(kThree, kWard, 5, 60));
  ASSERT_TRUE(keep({StageId{2}, 3}, kWard, 5, 10));
  copies.drop_before(StageId{2});
  EXPECT_THAT(copies.offers(), testing::ElementsAre(CopyOffer{{StageId{2}, 3}, 5}));
  EXPECT_EQ(copies.bytes_for_others(), 10u);
}

TEST_F(Keeping, MemoryIsUsedAgainOnceNobodyReadsIt) {
  ASSERT_TRUE(keep(kThree, kSelf, 5, 60));
  const std::byte* const before = copies.find(kThree)->bytes->data();
  std::shared_ptr<const Buffer> reader = copies.find(kThree)->bytes;
  ASSERT_TRUE(keep(kThree, kSelf, 6, 60));
  EXPECT_EQ(copies.spares().take()->capacity(), 0u) << "somebody reads it";
  reader.reset();
  copies.spares().lent_to_disk();
  EXPECT_EQ(copies.spares().take()->capacity(), 0u) << "the disk may";
  copies.spares().back_from_disk();
  const auto spare = copies.spares().take();
  EXPECT_EQ(spare->data(), before);
  EXPECT_TRUE(spare->empty());
}

TEST(CopyHash, OfOneThatCameBesideTheFramesIsTheTransfers) {
  const std::vector<std::byte> bytes(3 << 20, std::byte{7});
  const Buffer copy{std::span(bytes)};
  const std::uint64_t hash = hash_of_copy(bytes);
  EXPECT_EQ(hash, hash_of_bulk(bytes).low);
  BulkCopy bulk{{}, hash};
  EXPECT_TRUE(hash_is(hash, copy, nullptr));
  EXPECT_FALSE(hash_is(0, copy, nullptr)) << "in frames it is said";
  EXPECT_TRUE(hash_is(hash, copy, &bulk));
  EXPECT_TRUE(hash_is(0, copy, &bulk)) << "nobody has computed it before";
  EXPECT_FALSE(hash_is(hash + 1, copy, &bulk)) << "it has changed where it was kept";
  EXPECT_FALSE(hash_is(0, Buffer(), &bulk)) << "it came damaged";
}

TEST(CopyHead, IsTheSetOfMapShards) {
  Buffer bytes;
  Writer writer(bytes);
  ShardBits held(9);
  held.insert(ShardId{4});
  held.save(writer);
  const std::size_t head_bytes = bytes.size();
  writer.put_string("content");
  const auto head = read_copy_head(bytes.view(), 9);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->held, held);
  EXPECT_EQ(head->content_begin, head_bytes);
  EXPECT_FALSE(read_copy_head(bytes.view(), 3)) << "of another stage";
  EXPECT_FALSE(read_copy_head(bytes.view().first(1), 9));
}

}  // namespace
}  // namespace regroup
