-- title: Who agreed to what
-- topic: Quality
-- question: How many raters and owners of chats have agreed that what they say is used, and how many were never asked?
-- params: none
-- columns: role rater or owner; consent given, not asked or withdrawn; people count; rows count of their ratings, or of their chats, in the snapshot
-- Who withdrew is counted here and nothing else of theirs is in the snapshot.
WITH said AS (
    SELECT rater, count(*) AS rows FROM ratings GROUP BY rater
),
own AS (
    SELECT owner, count(*) AS rows FROM chats WHERE owner IS NOT NULL GROUP BY owner
),
everybody AS (
    SELECT CASE WHEN o.owner IS NOT NULL AND s.rater IS NULL THEN 'owner' ELSE 'rater' END AS role, coalesce(p.consent, 'not asked') AS consent,
           coalesce(s.rows, o.rows, 0) AS rows
    FROM people AS p
    LEFT JOIN said AS s ON s.rater::VARCHAR = p.rater
    LEFT JOIN own AS o ON o.owner = p.rater
)
SELECT role, consent, count(*) AS people, CAST(sum(rows) AS BIGINT) AS rows
FROM everybody
GROUP BY role, consent
ORDER BY role, consent;
